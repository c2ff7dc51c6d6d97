/*
 * Failures that the kernel itself makes.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/step.h"

/* The order is part of the wire format: KernelFaultKind in vfio_verify/values/case.py, from 1. */
enum vv_kernel_kind {
    VV_ADDRESS_SPACE = 1, VV_MAP_COUNT, VV_CLOSED_DESCRIPTOR, VV_READ_ONLY_DESCRIPTOR, VV_WRITE_ONLY_DESCRIPTOR,
    VV_SEALED, VV_TRUNCATED, VV_KERNEL_SECCOMP, VV_HUGETLB, VV_KERNEL_KINDS
};

struct vv_kernel {
    u64 kind, at;               /* kind 0: none */
    bool armed;                 /* it is set up now */
    int error;                  /* errno of a setting up or taking away that failed */
};
extern struct vv_kernel vv_kernel;

void vv_kernel_init(void);      /* once a process, after fork; makes all the descriptors that are needed later */
int vv_kernel_prepare(u64 kind, u64 at, u64 n_segments);    /* before a layout is built; 0 or -1 with errno */
void vv_kernel_before_call(void);
void vv_kernel_before_mmap(u64 nth);        /* the subject's nth, which is counted already */
void vv_kernel_after_call(void);            /* takes away what can be, before anything is looked at */
int vv_kernel_finish(void);                 /* after a request; 0, or -1 with errno if any of it failed */
bool vv_kernel_refuses(int fd);             /* does a descriptor not even get as far as the device's rules? */
bool vv_kernel_made(enum vv_step step, int error);  /* is this the failure that was set up? */
