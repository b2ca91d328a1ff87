// What arithmetic that CPU and CUDA code share is declared with.
#ifndef EV3X_SHARED_H_
#define EV3X_SHARED_H_

// The instruction set that this is compiled for, and the namespace of its code: csrc/cpu/isa.h.
#ifndef EV3X_ISA
#define EV3X_ISA baseline
#endif

#ifdef __CUDACC__
#define EV3X_SHARED __host__ __device__
#else
#define EV3X_SHARED
#endif

#endif  // EV3X_SHARED_H_
