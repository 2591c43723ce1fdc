/* LD_PRELOAD: the disk below one folder says no, once or for ever, from the n-th call on.
 *
 * Quiet until fail_watch(folder). SQLite's -shm is left out: it is memory. What is counted and
 * refused are calls of the kinds in the mask; a refusal either does nothing, or does it all and
 * says no, or does a part and says so, or does it late.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, OPEN = 4, RENAME = 8, CUT = 16, UNLINK = 32, READ = 64, MKDIR = 128 };
enum { NOTHING = 0, ALL = 1, PART = 2, LATE = 3 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int mask, nth, number, for_ever, manner, hits;
static int counts[8]; /* of each kind in the mask, since it was armed */
static const useconds_t LATE_US = 150000;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

void fail_watch(const char *folder)
{
    pthread_mutex_lock(&lock);
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    pthread_mutex_unlock(&lock);
}

void fail_arm(int kinds, int which, int code, int sticky, int how)
{
    pthread_mutex_lock(&lock);
    mask = kinds, nth = which, number = code, for_ever = sticky, manner = how, hits = 0;
    memset(counts, 0, sizeof counts);
    pthread_mutex_unlock(&lock);
}

void fail_disarm(void) { mask = 0; }
int fail_calls(int kind) { return counts[__builtin_ctz((unsigned)kind)]; }
int fail_hits(void) { return hits; }

static int is_ours(const char *path)
{
    size_t length = strlen(path);
    if (!root_length || strncmp(path, root, root_length) != 0 || path[root_length] != '/') return 0;
    return !(length > 4 && strcmp(path + length - 4, "-shm") == 0);
}

static int is_file_of_ours(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int kept = errno;
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (length <= 0) return 0;
    path[length] = '\0';
    return is_ours(path);
}

/* -1: go on; else how this call is refused. */
static int refused(int kind)
{
    if (!(mask & kind)) return -1;
    pthread_mutex_lock(&lock);
    int which = ++counts[__builtin_ctz((unsigned)kind)], how = -1;
    if ((mask & kind) && (for_ever ? which >= nth : which == nth)) hits++, how = manner;
    pthread_mutex_unlock(&lock);
    return how;
}
static int refused_fd(int kind, int fd) { return (mask & kind) && is_file_of_ours(fd) ? refused(kind) : -1; }
static int refused_path(int kind, const char *path) { return (mask & kind) && is_ours(path) ? refused(kind) : -1; }

#define NO(result) do { errno = number; return result; } while (0)
#define SIMPLE(how, call) \
    if (how == LATE) usleep(LATE_US); \
    if (how == NOTHING || how == PART) NO(-1); \
    if (how == ALL) { call; NO(-1); } \
    return call

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(pwrite64);
    int how = refused_fd(WRITE, fd);
    if (how == PART && size > 512) return real(fd, data, size / 2 / 512 * 512, at);
    SIMPLE(how, real(fd, data, size, at));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    int how = refused_fd(WRITE, fd);
    if (how == PART && size > 1) return real(fd, data, size / 2);
    SIMPLE(how, real(fd, data, size));
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at)
{
    REAL(pread64);
    int how = refused_fd(READ, fd);
    SIMPLE(how, real(fd, data, size, at));
}
ssize_t pread(int fd, void *data, size_t size, off_t at) { return pread64(fd, data, size, at); }
ssize_t read(int fd, void *data, size_t size)
{
    REAL(read);
    int how = refused_fd(READ, fd);
    SIMPLE(how, real(fd, data, size));
}

int fsync(int fd) { REAL(fsync); int how = refused_fd(SYNC, fd); SIMPLE(how, real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); int how = refused_fd(SYNC, fd); SIMPLE(how, real(fd)); }

int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); int how = refused_fd(CUT, fd); SIMPLE(how, real(fd, size)); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int truncate64(const char *path, off64_t size) { REAL(truncate64); int how = refused_path(CUT, path); SIMPLE(how, real(path, size)); }
int truncate(const char *path, off_t size) { return truncate64(path, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    REAL(posix_fallocate64);
    int how = refused_fd(CUT, fd);
    if (how == NOTHING || how == PART || how == ALL) return number;
    return real(fd, at, size);
}
int posix_fallocate(int fd, off_t at, off_t size) { return posix_fallocate64(fd, at, size); }

int rename(const char *from, const char *to) { REAL(rename); int how = refused_path(RENAME, from); SIMPLE(how, real(from, to)); }
int unlink(const char *path) { REAL(unlink); int how = refused_path(UNLINK, path); SIMPLE(how, real(path)); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); int how = refused_path(MKDIR, path); SIMPLE(how, real(path, mode)); }

#define OPENED(name) \
    REAL(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    int how = refused_path(OPEN, path); \
    if (how == ALL) how = NOTHING; /* an open that was made and not told would leak */ \
    SIMPLE(how, real(path, flags, mode))

int open(const char *path, int flags, ...) { OPENED(open); }
int open64(const char *path, int flags, ...) { OPENED(open64); }
