/* LD_PRELOAD: a disk whose every wait takes SLOW_SYNC_US longer, be it asked for by fsync, by
 * fdatasync or by a write to a file that is open with O_DSYNC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void wait_for_disk(void)
{
    static long us = -1;
    if (us < 0) us = getenv("SLOW_SYNC_US") ? atol(getenv("SLOW_SYNC_US")) : 0;
    if (us) usleep((useconds_t)us);
}

static void wait_if_synced(int fd, ssize_t done)
{
    if (done > 0 && fcntl(fd, F_GETFL) & O_DSYNC) wait_for_disk();
}

int fsync(int fd)
{
    REAL(fsync);
    wait_for_disk();
    return real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    wait_for_disk();
    return real(fd);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REAL(pwrite);
    ssize_t done = real(fd, data, size, at);
    wait_if_synced(fd, done);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(pwrite64);
    ssize_t done = real(fd, data, size, at);
    wait_if_synced(fd, done);
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    ssize_t done = real(fd, data, size);
    wait_if_synced(fd, done);
    return done;
}
