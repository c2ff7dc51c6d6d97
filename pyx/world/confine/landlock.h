/*
 * Which files a thread, and what it starts, can open: Landlock.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

/* linux/landlock.h, spelled out: the headers of a system may be older than its kernel. */
enum vv_file_access {
    VV_FS_EXECUTE = 1, VV_FS_WRITE_FILE = 2, VV_FS_READ_FILE = 4, VV_FS_READ_DIR = 8,
    VV_FS_MAKE_REG = 1 << 8,
    VV_FS_REFER = 1 << 13,              /* from version 2 */
    VV_FS_TRUNCATE = 1 << 14,           /* from version 3 */
    VV_FS_IOCTL_DEV = 1 << 15,          /* from version 5 */
    VV_FS_ALL = 0xffff,
};
#define VV_TRUNCATE_VERSION 3

long vv_landlock_version(void);         /* -1 with errno where it is missing */

/* A descriptor of a set of rules, or -1 with errno. All three pass an errno on, and the descriptor is closed in the end. */
int vv_landlock_begin(long version);
int vv_landlock_allow(int rules, int fd, u64 access);           /* of what this kernel knows; fd -1: nothing. 0 or -1 */
int vv_landlock_end(int rules, bool failed);                    /* restricts this thread for good, unless that failed */
