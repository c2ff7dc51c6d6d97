/*
 * Landlock's system calls, whose numbers are the same on every architecture.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <sys/stat.h>

#include "confine/rules.h"

enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };
enum { CREATE_RULESET_VERSION = 1, RULE_PATH_BENEATH = 1 };
#define OF_FILES (VV_FS_EXECUTE | VV_FS_WRITE_FILE | VV_FS_READ_FILE | VV_FS_TRUNCATE | VV_FS_IOCTL_DEV)

struct ruleset { u64 fs, net, scoped; };
struct __attribute__((packed)) path_rule { u64 access; int32_t fd; };

static u64 known_fs(long version)
{
    const u64 later = (version < 2 ? VV_FS_REFER : 0) | (version < 3 ? VV_FS_TRUNCATE : 0)
                      | (version < 5 ? VV_FS_IOCTL_DEV : 0);

    return VV_FS_ALL & ~later;
}

long vv_landlock_version(void)
{
    return syscall(CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);
}

int vv_landlock_begin(long version)
{
    /* From version 4 on: TCP, to bind and to connect. From version 6 on: abstract sockets and signals of others. */
    const struct ruleset rules = {known_fs(version), version >= 4 ? 3 : 0, version >= 6 ? 3 : 0};
    const size_t size = sizeof(u64) * (1 + (version >= 4) + (version >= 6));

    return (int)syscall(CREATE_RULESET, &rules, size, 0);
}

int vv_landlock_allow(int rules, int fd, u64 access)
{
    struct path_rule rule = {.access = access & known_fs(vv_landlock_version()), .fd = fd};
    struct stat status;

    if (fd < 0) {
        return 0;
    }
    if (fstat(fd, &status) < 0) {
        return -1;
    }
    rule.access &= S_ISDIR(status.st_mode) ? VV_FS_ALL : OF_FILES;
    return (int)syscall(ADD_RULE, rules, RULE_PATH_BENEATH, &rule, 0);
}

int vv_landlock_end(int rules, bool failed)
{
    const int result = failed ? -1 : (int)syscall(RESTRICT_SELF, rules, 0), error = errno;

    close(rules);
    errno = error;
    return result;
}
