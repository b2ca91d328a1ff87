# Fails if an object for a later instruction set defines a weak symbol outside the namespace of that set: the linker
# could take it for the baseline's, and a machine without that set would stop at an illegal instruction.
string(REPLACE "|" ";" OBJECTS "${OBJECTS}")
execute_process(COMMAND "${NM}" --defined-only --demangle ${OBJECTS} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]* [WVu] [^\n]*" weak "${symbols}")
list(FILTER weak EXCLUDE REGEX "::v[34]::| V DW\\.ref\\.")  # the latter: data, under sanitizers
if(weak)
  list(JOIN weak "\n  " list)
  message(FATAL_ERROR "weak symbols in kernels for a later instruction set (csrc/cpu/isa.h):\n  ${list}")
endif()
