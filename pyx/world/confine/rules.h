/*
 * What a thread can still do, put together rule by rule: Landlock and seccomp. Neither needs privileges.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/base.h"

/* ---- landlock.c: which files a thread, and what it starts, can open ----------------------------- */

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

/* A descriptor of a set of rules, or -1 with errno. All three pass an errno on, and the descriptor is closed in the
 * end. */
int vv_landlock_begin(long version);
int vv_landlock_allow(int rules, int fd, u64 access);           /* of what this kernel knows; fd -1: nothing. 0 or -1 */
int vv_landlock_end(int rules, bool failed);                    /* restricts this thread for good, unless that failed */

/* ---- filter.c: which system calls it can make --------------------------------------------------- */

#if defined(__x86_64__)
#define VV_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define VV_ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define VV_ARCHITECTURE AUDIT_ARCH_RISCV64
#endif

#define VV_FAIL(error) (SECCOMP_RET_ERRNO | (error))
#define VV_WORD(field) offsetof(struct seccomp_data, field)
#define VV_ARGUMENT(n) (VV_WORD(args) + 8 * (n))    /* its low word: all these architectures put it first */

/* Afterwards the number of the call is loaded. Calls by the numbers of another architecture fail. */
void vv_filter_begin(void);

void vv_filter_put(unsigned short operation, u64 value, unsigned char if_true, unsigned char if_false);
void vv_filter_load(u64 offset);                    /* VV_WORD() or VV_ARGUMENT() */
void vv_filter_answer(u64 value);                   /* SECCOMP_RET_ALLOW, VV_FAIL() */
void vv_filter_when(u64 value, unsigned length);    /* the next ones are for this value; they end in an answer */
void vv_filter_allow(u64 value);
void vv_filter_refuse(u64 value, unsigned error);
unsigned vv_filter_length(void);
void vv_filter_land(unsigned jump);                 /* where that instruction jumps to if true: here */

/* For this thread, for good. 0, a descriptor where the flags ask for one, or -1 with errno; EOPNOTSUPP where filters
 * are not written for this processor. */
int vv_filter_install(unsigned flags);
