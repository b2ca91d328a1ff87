/* Makes operations on files under one directory fail, from one operation to another: preloaded, and armed by a call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITES, LOCKS, ALL, READS };

static char under[4096];
static int fault, kinds;
static long first, last, seen;

/* `kind` of operations that fail: WRITES, LOCKS or ALL (of which READS are a part). With no error, they are counted. */
void fail_from_now_on(const char *directory, int error, int kind, long from, long to) {
  strncpy(under, directory, sizeof under - 1);
  fault = error, kinds = kind, first = from, last = to, seen = 0;
}

long operations_seen(void) { return __atomic_load_n(&seen, __ATOMIC_RELAXED); }

static int fails(int kind, const char *path) {
  if (!under[0] || (kinds != kind && kinds != ALL) || strncmp(path, under, strlen(under))) return 0;
  long n = __atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
  if (!fault || n < first || n >= last) return 0;
  errno = fault;
  return n == first ? 2 : 1; /* 2: the first that fails */
}

static int fails_at(int kind, int file) {
  if (!under[0] || (kinds != kind && kinds != ALL)) return 0;
  char name[64], path[4096];
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t n = readlink(name, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return fails(kind, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int opening(int flags) { return flags & (O_CREAT | O_WRONLY | O_RDWR) ? WRITES : READS; }

#define OPEN(name)                                        \
  int name(const char *path, int flags, ...) {            \
    va_list rest;                                         \
    va_start(rest, flags);                                \
    mode_t mode = va_arg(rest, mode_t);                   \
    va_end(rest);                                         \
    if (fails(opening(flags), path)) return -1;           \
    return REAL(name)(path, flags, mode);                 \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                      \
  int name(int at, const char *path, int flags, ...) {    \
    va_list rest;                                         \
    va_start(rest, flags);                                \
    mode_t mode = va_arg(rest, mode_t);                   \
    va_end(rest);                                         \
    if (fails(opening(flags), path)) return -1;           \
    return REAL(name)(at, path, flags, mode);             \
  }
OPENAT(openat)
OPENAT(openat64)

/* The first write that fails takes half of the bytes, as on a disk that is full. */
ssize_t write(int file, const void *bytes, size_t n) {
  int how = fails_at(WRITES, file);
  return how == 2 && n > 1 ? REAL(write)(file, bytes, n / 2) : how ? -1 : REAL(write)(file, bytes, n);
}

ssize_t writev(int file, const struct iovec *parts, int n) {
  return fails_at(WRITES, file) ? -1 : REAL(writev)(file, parts, n);
}

#define PWRITE(name, offset)                                                                                  \
  ssize_t name(int file, const void *bytes, size_t n, offset at) {                                            \
    return fails_at(WRITES, file) ? -1 : REAL(name)(file, bytes, n, at);                                      \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PREAD(name, offset)                                                                                   \
  ssize_t name(int file, void *bytes, size_t n, offset at) {                                                  \
    return fails_at(READS, file) ? -1 : REAL(name)(file, bytes, n, at);                                       \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

ssize_t read(int file, void *bytes, size_t n) { return fails_at(READS, file) ? -1 : REAL(read)(file, bytes, n); }
int fsync(int file) { return fails_at(WRITES, file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return fails_at(WRITES, file) ? -1 : REAL(fdatasync)(file); }
int mkdir(const char *path, mode_t mode) { return fails(WRITES, path) ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { return fails(WRITES, to) ? -1 : REAL(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to) {
  return fails(WRITES, to) ? -1 : REAL(renameat)(a, from, b, to);
}
int flock(int file, int how) {
  extern int flock(int, int);
  return fails_at(LOCKS, file) ? -1 : REAL(flock)(file, how);
}

static int locking(int command) {
  return command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
}

#define FCNTL(name)                                                 \
  int name(int file, int command, ...) {                            \
    va_list rest;                                                   \
    va_start(rest, command);                                        \
    void *argument = va_arg(rest, void *);                          \
    va_end(rest);                                                   \
    if (locking(command) && fails_at(LOCKS, file)) return -1;       \
    return REAL(name)(file, command, argument);                     \
  }
FCNTL(fcntl)
FCNTL(fcntl64)
