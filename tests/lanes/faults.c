/* Preloaded: lets the n-th system call of an armed stretch of a process fail with a chosen errno. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/types.h>

static long remaining; /* calls until the one that fails; 0 when disarmed */
static int number;
static const char *failed;

void faults_arm(long nth, int error)
{
    remaining = nth;
    number = error;
    failed = NULL;
}

const char *faults_disarm(void) /* the call that failed, or NULL */
{
    remaining = 0;
    return failed;
}

static int fails(const char *name)
{
    if (remaining == 0 || --remaining > 0)
        return 0;
    failed = name;
    errno = number;
    return 1;
}

#define NEXT(name, type) ((type)dlsym(RTLD_NEXT, #name))
#define WRAP(result, name, parameters, arguments)                                                  \
    result name parameters                                                                         \
    {                                                                                              \
        return fails(#name) ? (result)-1 : NEXT(name, result(*) parameters) arguments;             \
    }

struct stat64;
WRAP(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size))
WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
WRAP(int, fsync, (int fd), (fd))
WRAP(off_t, lseek64, (int fd, off_t offset, int whence), (fd, offset, whence))
WRAP(int, ftruncate64, (int fd, off_t size), (fd, size))
WRAP(int, rename, (const char *from, const char *to), (from, to))
WRAP(int, unlink, (const char *path), (path))
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode))
WRAP(int, stat64, (const char *path, struct stat64 *status), (path, status))
WRAP(int, lstat64, (const char *path, struct stat64 *status), (path, status))
WRAP(int, fstat64, (int fd, struct stat64 *status), (fd, status))
WRAP(ssize_t, readlink, (const char *path, char *data, size_t size), (path, data, size))
WRAP(int, kill, (pid_t process, int signal), (process, signal))
WRAP(void *, mmap64, (void *at, size_t size, int prot, int flags, int fd, off_t offset),
     (at, size, prot, flags, fd, offset))

void *opendir(const char *path)
{
    return fails("opendir") ? NULL : NEXT(opendir, void *(*)(const char *))(path);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    const int mode = va_arg(more, int);
    va_end(more);
    return fails("open") ? -1 : NEXT(open64, int (*)(const char *, int, ...))(path, flags, mode);
}

int close(int fd) /* closes even when it reports a fault, as Linux does */
{
    const int result = NEXT(close, int (*)(int))(fd);
    return fails("close") ? -1 : result;
}
