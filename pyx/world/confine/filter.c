/*
 * The present filter lies here: what is installed inside a call of the subject must not allocate.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <sys/prctl.h>

#include "confine/rules.h"

#define MAX_CODE 1024
#define X32 0x40000000u                 /* from here on, x32's calls, with other numbers */

static struct sock_filter code[MAX_CODE];
static unsigned n_code;

void vv_filter_put(unsigned short operation, u64 value, unsigned char if_true, unsigned char if_false)
{
    if (n_code < MAX_CODE) {
        code[n_code++] = (struct sock_filter){operation, if_true, if_false, (unsigned)value};
    }
}

void vv_filter_load(u64 offset) { vv_filter_put(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
void vv_filter_answer(u64 value) { vv_filter_put(BPF_RET | BPF_K, value, 0, 0); }

void vv_filter_when(u64 value, unsigned length)
{
    vv_filter_put(BPF_JMP | BPF_JEQ | BPF_K, value, 0, (unsigned char)length);
}

void vv_filter_allow(u64 value)
{
    vv_filter_when(value, 1);
    vv_filter_answer(SECCOMP_RET_ALLOW);
}

void vv_filter_refuse(u64 value, unsigned error)
{
    vv_filter_when(value, 1);
    vv_filter_answer(VV_FAIL(error));
}

unsigned vv_filter_length(void)
{
    return n_code;
}

void vv_filter_land(unsigned jump)
{
    code[jump].jt = (unsigned char)(n_code - jump - 1);
}

void vv_filter_begin(void)
{
    n_code = 0;
#ifdef VV_ARCHITECTURE
    vv_filter_load(VV_WORD(arch));
    vv_filter_put(BPF_JMP | BPF_JEQ | BPF_K, VV_ARCHITECTURE, 1, 0);
    vv_filter_answer(VV_FAIL(ENOSYS));
#endif
    vv_filter_load(VV_WORD(nr));
    vv_filter_put(BPF_JMP | BPF_JGE | BPF_K, X32, 0, 1);
    vv_filter_answer(VV_FAIL(ENOSYS));
}

int vv_filter_install(unsigned flags)
{
    const struct sock_fprog program = {.len = (unsigned short)n_code, .filter = code};
    int result;

#ifndef VV_ARCHITECTURE
    errno = EOPNOTSUPP;
    return -1;
#endif
    if (n_code == MAX_CODE) {
        errno = E2BIG;
        return -1;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return -1;
    }
    /* Kernels before 5.16 would slow a filtered process down by what they do against speculation. */
    result = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
    return result >= 0 ? result : (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
