/*
 * A compiler starts programs and makes files, and differs from machine to machine: all is allowed but what is listed.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>

#include "confine/confine.h"
#include "confine/rules.h"

/* Sockets, what is of other processes or of the whole machine, mounts. */
static const short refused[] = {
    SYS_socket, SYS_socketpair, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_bpf, SYS_perf_event_open,
    SYS_userfaultfd, SYS_add_key, SYS_request_key, SYS_keyctl, SYS_mount, SYS_unshare, SYS_setns, SYS_open_by_handle_at,
    /* io_uring, mounts by descriptor, pidfd: newer than some headers, with the same numbers everywhere */
    425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438,
};

static int allow(int rules, const char *path, u64 access)
{
    const int fd = open(path, O_PATH | O_CLOEXEC);
    const int result = vv_landlock_allow(rules, fd, access), error = errno;

    if (fd >= 0) {
        close(fd);
    }
    errno = error;
    return result;
}

static int allow_all(int rules, const char *paths, u64 access)
{
    int result = 0;

    for (; *paths && result == 0; paths += strlen(paths) + 1) {
        result = allow(rules, paths, access);
    }
    return result;
}

static int restrict_files(long version, const char *programs, const char *readable, const char *writable)
{
    const int rules = vv_landlock_begin(version);
    bool failed;

    if (rules < 0) {
        return -1;
    }
    failed = allow_all(rules, programs, VV_FS_EXECUTE | VV_FS_READ_FILE | VV_FS_READ_DIR) < 0
             || allow_all(rules, readable, VV_FS_READ_FILE | VV_FS_READ_DIR) < 0
             || allow(rules, writable, VV_FS_ALL & ~(VV_FS_EXECUTE | VV_FS_IOCTL_DEV)) < 0
             || allow(rules, "/dev/null", VV_FS_READ_FILE | VV_FS_WRITE_FILE | VV_FS_TRUNCATE) < 0;
    return vv_landlock_end(rules, failed);
}

static void restrict_calls(void)
{
    size_t i;

    vv_filter_begin();
    for (i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        vv_filter_refuse((u64)refused[i], EPERM);
    }
    vv_filter_answer(SECCOMP_RET_ALLOW);
    vv_filter_install(0);
}

int vv_confine_compiler(u64 parts, const char *programs, const char *readable, const char *writable)
{
    const long version = parts & VV_LANDLOCK ? vv_landlock_version() : -1;

    if (parts && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return -1;
    }
    if (version > 0 && restrict_files(version, programs, readable, writable) < 0) {
        return -1;
    }
    if (parts & VV_SECCOMP) {
        restrict_calls();
    }
    return 0;
}
