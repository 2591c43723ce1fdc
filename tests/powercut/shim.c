/* LD_PRELOAD: writes down, in order, whatever this process does to the files below one folder.
 *
 * Quiet until powercut_start(root, trace). Each call is made and noted under one lock, so the
 * order in the trace is the order in which things happened, also between threads. SQLite's -shm
 * is left out: it is shared memory, rebuilt after a power cut, never part of what is durable.
 *
 * A trace is a run of records: kind (1), path length (4), data length (4), offset (8), all
 * little-endian; then the path below root, then the data.
 *   C created   W written at offset   T cut to length offset   S synced (file or folder)
 *   Y the write just before was on disk when it returned (the file is open with O_DSYNC)
 *   R renamed to data   U unlinked   D folder made   X folder removed   M mark: data is the driver's
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int trace = -1;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static ssize_t raw_write(int fd, const void *data, size_t size)
{
    REAL(write);
    return real(fd, data, size);
}

/* The part of a path below root, or NULL if it is none of ours. */
static const char *below(const char *path)
{
    size_t length = strlen(path);
    if (trace < 0 || strncmp(path, root, root_length) != 0) return NULL;
    if (path[root_length] != '/' && path[root_length] != '\0') return NULL;
    if (length > 4 && strcmp(path + length - 4, "-shm") == 0) return NULL;
    if (length > 10 && strcmp(path + length - 10, " (deleted)") == 0) return NULL;
    return path + root_length;
}

static const char *path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = trace < 0 ? -1 : readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return NULL;
    path[length] = '\0';
    return below(path);
}

static void put(const void *data, size_t size)
{
    for (const char *rest = data; size > 0;) {
        ssize_t done = raw_write(trace, rest, size);
        if (done <= 0) _exit(97); /* a trace with a gap would prove nothing */
        rest += done, size -= (size_t)done;
    }
}

static void note(char kind, const char *path, const void *data, size_t size, int64_t offset)
{
    uint32_t path_size = (uint32_t)strlen(path), data_size = (uint32_t)size;
    char head[17];
    int kept = errno;
    head[0] = kind;
    memcpy(head + 1, &path_size, 4), memcpy(head + 5, &data_size, 4), memcpy(head + 9, &offset, 8);
    put(head, sizeof head), put(path, path_size), put(data, data_size);
    errno = kept;
}

/* ---- for the driver ---- */

int powercut_start(const char *folder, const char *file)
{
    pthread_mutex_lock(&lock);
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    REAL(open64);
    trace = real(file, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    pthread_mutex_unlock(&lock);
    return trace < 0 ? -1 : 0;
}

void powercut_stop(void)
{
    pthread_mutex_lock(&lock);
    if (trace >= 0) close(trace);
    trace = -1;
    pthread_mutex_unlock(&lock);
}

/* The plug: other threads get no further than their next call, which nobody would have noted. */
void powercut_end(void)
{
    pthread_mutex_lock(&lock);
    _exit(0);
}

void powercut_mark(const char *data, size_t size)
{
    pthread_mutex_lock(&lock);
    if (trace >= 0) note('M', "", data, size, 0);
    pthread_mutex_unlock(&lock);
}

/* ---- what is listened to ---- */

#define NOTED(condition, kind, path, data, size, offset) \
    if (path && (condition)) note(kind, path, data, size, offset); \
    pthread_mutex_unlock(&lock)

/* A write, and its sync if the file was opened so (O_SYNC includes O_DSYNC): two records, so that
 * a cut falls between them too. */
static void note_write(int fd, const char *path, const void *data, size_t size, int64_t at)
{
    int flags = fcntl(fd, F_GETFL);
    note('W', path, data, size, at);
    if (flags >= 0 && (flags & O_DSYNC)) note('Y', path, NULL, 0, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(pwrite64);
    char buffer[PATH_MAX];
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd, buffer);
    ssize_t done = real(fd, data, size, at);
    if (path && done > 0) note_write(fd, path, data, (size_t)done, at);
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size)
{
    if (trace < 0) return raw_write(fd, data, size);
    char buffer[PATH_MAX];
    struct stat is;
    /* Only files: a pipe may block, and nobody may hold the lock then. */
    if (fstat(fd, &is) != 0 || !S_ISREG(is.st_mode)) return raw_write(fd, data, size);
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd, buffer);
    ssize_t done = raw_write(fd, data, size);
    if (path && done > 0) note_write(fd, path, data, (size_t)done, lseek64(fd, 0, SEEK_CUR) - done);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    char buffer[PATH_MAX];
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd, buffer);
    int failed = real(fd, size);
    NOTED(!failed, 'T', path, NULL, 0, size);
    return failed;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* Room made without a write: zeros, as far as anybody can read. */
int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    REAL(posix_fallocate64);
    char buffer[PATH_MAX];
    struct stat before;
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd, buffer);
    int unknown = fstat(fd, &before);
    int failed = real(fd, at, size);
    NOTED(!failed && !unknown && at + size > before.st_size, 'T', path, NULL, 0, at + size);
    return failed;
}
int posix_fallocate(int fd, off_t at, off_t size) { return posix_fallocate64(fd, at, size); }

static int sync_with(int (*real)(int), int fd)
{
    char buffer[PATH_MAX];
    pthread_mutex_lock(&lock);
    const char *path = path_of(fd, buffer);
    int failed = real(fd);
    NOTED(!failed, 'S', path, NULL, 0, 0);
    return failed;
}
int fsync(int fd) { REAL(fsync); return sync_with(real, fd); }
int fdatasync(int fd) { REAL(fdatasync); return sync_with(real, fd); }

static int open_with(int (*real)(const char *, int, ...), const char *name, int flags, mode_t mode)
{
    pthread_mutex_lock(&lock);
    const char *path = below(name);
    int was_there = path && access(name, F_OK) == 0;
    int fd = real(name, flags, mode);
    if (fd >= 0 && path && (flags & O_CREAT) && !was_there) note('C', path, NULL, 0, 0);
    if (fd >= 0 && path && (flags & O_TRUNC) && was_there) note('T', path, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPENED(name) \
    REAL(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    return open_with(real, path, flags, mode)

int open(const char *path, int flags, ...) { OPENED(open); }
int open64(const char *path, int flags, ...) { OPENED(open64); }

int rename(const char *from, const char *to)
{
    REAL(rename);
    pthread_mutex_lock(&lock);
    const char *path = below(from), *target = below(to);
    int failed = real(from, to);
    if (!failed && !path != !target) _exit(98); /* moved in or out: the recording cannot say that */
    NOTED(!failed, 'R', path, target, strlen(target), 0);
    return failed;
}

static int named(int (*real)(const char *), const char *name, char kind)
{
    pthread_mutex_lock(&lock);
    const char *path = below(name);
    int failed = real(name);
    NOTED(!failed, kind, path, NULL, 0, 0);
    return failed;
}
int unlink(const char *path) { REAL(unlink); return named(real, path, 'U'); }
int rmdir(const char *path) { REAL(rmdir); return named(real, path, 'X'); }

int mkdir(const char *name, mode_t mode)
{
    REAL(mkdir);
    pthread_mutex_lock(&lock);
    const char *path = below(name);
    int failed = real(name, mode);
    NOTED(!failed, 'D', path, NULL, 0, 0);
    return failed;
}
