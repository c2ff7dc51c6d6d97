/*
 * The system calls of a subject that open and close descriptors. Nothing here allocates.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/base.h"
#include "observe/observe.h"
#include "steps/steps.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

int vv_dup_as(long number, int fd, int target, int flags)
{
    struct vv_event *event = vv_begin(VV_DUP, (u64)(int64_t)fd, (u64)(int64_t)target, (u64)flags, (u64)number, 0, 0);
    int result;

    if (event->error) {
        return vv_finish(event, -1, (int)event->error);
    }
    if (target >= 0 && vv_fd_is_foreign(target)) {
        event->flags |= VV_OUTSIDE | VV_REFUSED;    /* would close a descriptor that is not the subject's */
        return vv_finish(event, target, 0);
    }
    result = (int)(target < 0 ? syscall(SYS_dup, fd) : syscall(SYS_dup3, fd, target, flags));
    return vv_finish(event, vv_fd_opened(result), result < 0 ? errno : 0);
}

int vv_dup(int fd)
{
    return vv_calls.active ? vv_dup_as(SYS_dup, fd, -1, 0) : (int)syscall(SYS_dup, fd);
}

/* A close of what is not the subject's, which is not done, or of what is not open: by then the number may be another
 * thread's. A negative one is nobody's. */
static bool astray(struct vv_event *event, int fd)
{
    const bool foreign = vv_fd_is_foreign(fd);

    if (!foreign && fcntl(fd, F_GETFD) >= 0) {
        return false;
    }
    event->flags |= foreign ? VV_OUTSIDE | VV_REFUSED : fd >= 0 ? VV_OUTSIDE : 0;
    vv_finish(event, foreign ? 0 : -1, foreign ? 0 : EBADF);
    return true;
}

int vv_close(int fd)
{
    struct vv_event *event;

    if (!vv_calls.active) {
        return (int)syscall(SYS_close, fd);
    }
    event = vv_begin(VV_CLOSE, (u64)(int64_t)fd, 0, 0, 0, 0, 0);
    if (astray(event, fd)) {
        return (int)event->result;
    }
    vv_fd_closed(fd);
    syscall(SYS_close, fd);         /* Linux closes it even when it reports a failure */
    return event->error ? vv_finish(event, -1, (int)event->error) : vv_finish(event, 0, 0);
}

/* Each descriptor is closed as by a close() of its own. */
int vv_close_range(unsigned int first, unsigned int last, int flags)
{
    u64 fd;

    if (!vv_calls.active || (flags & CLOSE_RANGE_CLOEXEC) || last < first) {
        return (int)syscall(SYS_close_range, first, last, flags);
    }
    for (fd = vv_fds_open_from(first); fd <= last; fd = vv_fds_open_from(fd + 1)) {
        vv_close((int)fd);
    }
    return 0;
}

int vv_fclose(FILE *stream)
{
    const int fd = fileno(stream);
    struct vv_event *event;
    int error;

    if (!vv_calls.active || fd < 0) {
        return fclose(stream);
    }
    event = vv_begin(VV_CLOSE, (u64)(int64_t)fd, 0, 0, 0, 0, 0);
    if (astray(event, fd)) {
        return event->error ? EOF : 0;
    }
    vv_fd_closed(fd);
    error = fclose(stream) == EOF ? errno : 0;
    error = event->error ? (int)event->error : error;
    return error ? vv_finish(event, EOF, error) : vv_finish(event, 0, 0);
}

int vv_openat(int directory, const char *path, int flags, mode_t mode)
{
    struct vv_event *event;
    int fd;

    if (!vv_calls.active) {
        return openat(directory, path, flags, mode);
    }
    event = vv_begin(VV_OTHER_CALL, (u64)(int64_t)directory, (u64)flags, 0, SYS_openat, 0, 0);
    if (event->error) {
        return vv_finish(event, -1, (int)event->error);
    }
    fd = openat(directory, path, flags, mode);
    return vv_finish(event, vv_fd_opened(fd), fd < 0 ? errno : 0);
}

/* F_DUPFD and F_DUPFD_CLOEXEC; other commands are made as they are. */
int vv_fcntl(int fd, int command, long value)
{
    struct vv_event *event;
    int result;

    if (!vv_calls.active || (command != F_DUPFD && command != F_DUPFD_CLOEXEC)) {
        return fcntl(fd, command, value);
    }
    event = vv_begin(VV_DUP, (u64)(int64_t)fd, (u64)value, (u64)command, SYS_fcntl, 0, 0);
    if (event->error) {
        return vv_finish(event, -1, (int)event->error);
    }
    result = fcntl(fd, command, value);
    return vv_finish(event, vv_fd_opened(result), result < 0 ? errno : 0);
}
