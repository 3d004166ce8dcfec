/*
 * Stands between a process and the C library's file calls, for what lies below one directory: writes each change of it into a
 * journal, in order, or has the n-th fail. Loaded with LD_PRELOAD by the tests of crash points; never part of the product.
 *
 *   CRASH_BELOW    the directory
 *   CRASH_JOURNAL  where the journal goes (not below the directory); none when it is not set
 *   CRASH_FAIL_AT  the change that fails, counted from 0
 *   CRASH_ERRNO    with what: 5 (an I/O error, once), 28 (no space: everything from there on that needs some)
 *
 * A record: kind (1), handle (4), number (8), first path's length (4), second's or the data's (4), path, path or data. Numbers
 * are little-endian, as this machine's are. One lock makes one order of all threads' changes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 4096 };

/* Calls that change nothing by themselves are not counted: KIND_OPEN of what is there. */
enum kind { KIND_OPEN = 'o', KIND_CREATE = 'c', KIND_WRITE = 'w', KIND_TRUNCATE = 't', KIND_SYNC = 's',
            KIND_RENAME = 'r', KIND_UNLINK = 'u', KIND_MKDIR = 'm', KIND_RMDIR = 'd', KIND_LINK = 'l' };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *below;
static size_t below_length;
static int journal = -1;
static long fail_at = -1;
static int fail_errno;
static long changes;
static uint32_t next_handle = 1;
static uint32_t handles[FDS];
static char *paths[FDS];

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("CRASH_FAIL_AT"), *with = getenv("CRASH_ERRNO"), *to = getenv("CRASH_JOURNAL");
    const char *directory = getenv("CRASH_BELOW");
    if (directory == NULL) return;
    if (to != NULL) journal = (int)syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (at != NULL) fail_at = atol(at);
    if (with != NULL) fail_errno = atoi(with);
    below = strdup(directory);
    below_length = strlen(below);
}

static int is_below(const char *path) {
    return below != NULL && path != NULL && strncmp(path, below, below_length) == 0 &&
           (path[below_length] == '/' || path[below_length] == 0);
}

/* The whole path of what is named relative to an open directory; the caller frees it. NULL when it is not below. */
static char *resolve(int directory, const char *path) {
    if (below == NULL || path == NULL) return NULL;
    if (path[0] == '/') return is_below(path) ? strdup(path) : NULL;
    if (directory < 0 || directory >= FDS || paths[directory] == NULL) return NULL;
    char *whole = NULL;
    if (asprintf(&whole, "%s/%s", paths[directory], path) < 0) return NULL;
    return whole;
}

static void put(const void *bytes, size_t count) {
    const char *at = bytes;
    while (count > 0) {
        ssize_t done = syscall(SYS_write, journal, at, count);
        if (done <= 0) _exit(99);
        at += done;
        count -= (size_t)done;
    }
}

static void record(enum kind kind, uint32_t handle, uint64_t number, const char *first, const void *second,
                   uint32_t second_length) {
    if (journal < 0) return;
    uint8_t tag = (uint8_t)kind;
    uint32_t first_length = first == NULL ? 0 : (uint32_t)strlen(first);
    put(&tag, 1);
    put(&handle, 4);
    put(&number, 8);
    put(&first_length, 4);
    put(&second_length, 4);
    if (first_length > 0) put(first, first_length);
    if (second_length > 0) put(second, second_length);
}

/* Counts a change. Whether it must fail; with what is in errno. */
static int must_fail(int needs_space) {
    long number = changes++;
    if (fail_at < 0) return 0;
    int fails = fail_errno == ENOSPC ? number >= fail_at && needs_space : number == fail_at;
    if (fails) errno = fail_errno;
    return fails;
}

static uint32_t handle_of(int fd) { return fd >= 0 && fd < FDS ? handles[fd] : 0; }


static int do_open(int directory, const char *path, int flags, mode_t mode) {
    char *whole = resolve(directory, path);
    if (whole == NULL) {
        int other = (int)syscall(SYS_openat, directory, path, flags, mode);
        // The number may be that of a directory which the C library closed itself.
        if (other >= 0 && other < FDS) handles[other] = 0;
        return other;
    }
    pthread_mutex_lock(&lock);
    int is_there = syscall(SYS_faccessat, AT_FDCWD, whole, F_OK) == 0;
    int creates = (flags & O_CREAT) != 0 && !is_there, empties = (flags & O_TRUNC) != 0;
    int fd = -1;
    if (!(creates || empties) || !must_fail(creates)) {
        fd = (int)syscall(SYS_openat, AT_FDCWD, whole, flags, mode);
        if (fd >= 0 && fd < FDS) {
            handles[fd] = next_handle++;
            free(paths[fd]);
            paths[fd] = strdup(whole);
            record(creates ? KIND_CREATE : KIND_OPEN, handles[fd], empties, whole, NULL, 0);
        }
    }
    int error = errno;
    free(whole);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? (mode_t)va_arg(rest, int) : 0;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return do_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return do_open(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return do_open(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return do_open(directory, path, flags | O_LARGEFILE, mode);
}

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FDS && handles[fd] != 0) {
        handles[fd] = 0;
        free(paths[fd]);
        paths[fd] = NULL;
    }
    int done = (int)syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return done;
}

/* offset -1: where the file stands. */
static ssize_t do_write(int fd, const void *bytes, size_t count, off_t offset) {
    pthread_mutex_lock(&lock);
    ssize_t done = -1;
    if (!must_fail(1)) {
        off_t at = offset;
        if (at < 0) at = lseek(fd, 0, (fcntl(fd, F_GETFL) & O_APPEND) != 0 ? SEEK_END : SEEK_CUR);
        done = offset < 0 ? syscall(SYS_write, fd, bytes, count) : syscall(SYS_pwrite64, fd, bytes, count, offset);
        if (done > 0) record(KIND_WRITE, handles[fd], (uint64_t)at, NULL, bytes, (uint32_t)done);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return handle_of(fd) == 0 ? syscall(SYS_write, fd, bytes, count) : do_write(fd, bytes, count, -1);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    return handle_of(fd) == 0 ? syscall(SYS_pwrite64, fd, bytes, count, offset) : do_write(fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

/* A short count is allowed: the caller goes on with the rest. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (handle_of(fd) == 0) return syscall(SYS_writev, fd, parts, count);
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len > 0) return do_write(fd, parts[i].iov_base, parts[i].iov_len, -1);
    return 0;
}

/* Refused, so that the caller falls back to what is seen here. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags) {
    if (handle_of(out) != 0) { errno = ENOSYS; return -1; }
    return syscall(SYS_copy_file_range, in, from, out, to, count, flags);
}

int ftruncate64(int fd, off64_t length) {
    if (handle_of(fd) == 0) return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!must_fail(1)) {
        done = (int)syscall(SYS_ftruncate, fd, length);
        if (done == 0) record(KIND_TRUNCATE, handles[fd], (uint64_t)length, NULL, NULL, 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* The disk itself need not be waited for: nobody pulls its plug. */
static int do_sync(int fd, long call) {
    if (handle_of(fd) == 0) return (int)syscall(call, fd);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (!must_fail(0)) {
        done = 0;
        record(KIND_SYNC, handles[fd], 0, NULL, NULL, 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

/* Two names, of which the first decides whether it is seen. */
static int do_names(enum kind kind, int from_directory, const char *from, int to_directory, const char *to, int flags) {
    char *first = resolve(from_directory, from), *second = resolve(to_directory, to);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (first == NULL || !must_fail(kind == KIND_LINK)) {
        done = kind == KIND_RENAME ? (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags)
                                   : (int)syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
        if (done == 0 && first != NULL && second != NULL) record(kind, 0, 0, first, second, (uint32_t)strlen(second));
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    free(first);
    free(second);
    errno = error;
    return done;
}

int rename(const char *from, const char *to) { return do_names(KIND_RENAME, AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return do_names(KIND_RENAME, a, from, b, to, 0); }
int link(const char *from, const char *to) { return do_names(KIND_LINK, AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return do_names(KIND_LINK, a, from, b, to, flags);
}

static int do_name(enum kind kind, int directory, const char *path, int flags, mode_t mode) {
    char *whole = resolve(directory, path);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (whole == NULL || !must_fail(kind == KIND_MKDIR)) {
        done = kind == KIND_MKDIR ? (int)syscall(SYS_mkdirat, directory, path, mode)
                                  : (int)syscall(SYS_unlinkat, directory, path, flags);
        if (done == 0 && whole != NULL) record(kind, 0, 0, whole, NULL, 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    free(whole);
    errno = error;
    return done;
}

int unlink(const char *path) { return do_name(KIND_UNLINK, AT_FDCWD, path, 0, 0); }
int rmdir(const char *path) { return do_name(KIND_RMDIR, AT_FDCWD, path, AT_REMOVEDIR, 0); }
int unlinkat(int directory, const char *path, int flags) {
    return do_name((flags & AT_REMOVEDIR) != 0 ? KIND_RMDIR : KIND_UNLINK, directory, path, flags, 0);
}
int mkdir(const char *path, mode_t mode) { return do_name(KIND_MKDIR, AT_FDCWD, path, 0, mode); }
