/* LD_PRELOAD: a disk that is slow or broken for the files it is told, from when it is told.
 *
 * The file named by DISK_TROUBLE holds one line, read anew at each write and sync:
 *   <part of a path> <errno> <milliseconds>      errno 0: the call is only slow
 * No file, or an empty one: a healthy disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* 0, or the errno with which this call must fail; it may sleep first. */
static int trouble(int fd)
{
    const char *told = getenv("DISK_TROUBLE");
    char link[64], path[PATH_MAX], part[256];
    int number, milliseconds;
    FILE *file = told ? fopen(told, "r") : NULL;
    if (!file) return 0;
    int found = fscanf(file, "%255s %d %d", part, &number, &milliseconds);
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (found != 3 || length <= 0) return 0;
    path[length] = '\0';
    if (!strstr(path, part)) return 0;
    usleep((useconds_t)milliseconds * 1000);
    return number;
}

#define OR_FAIL(fd, failed) \
    int number = trouble(fd); \
    if (number) { errno = number; return failed; }

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    REAL(pwrite);
    OR_FAIL(fd, -1)
    return real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    REAL(pwrite64);
    OR_FAIL(fd, -1)
    return real(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    OR_FAIL(fd, -1)
    return real(fd, data, size);
}

int fsync(int fd)
{
    REAL(fsync);
    OR_FAIL(fd, -1)
    return real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    OR_FAIL(fd, -1)
    return real(fd);
}
