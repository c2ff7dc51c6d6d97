/*
 * The files behind all memory that a subject maps: one memfd a device, some for regions that have a file of their own,
 * one more for plain RAM.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/layout.h"

#define VV_MEMFD_BYTES (1ull << 60)
#define VV_RAM_SLOT VV_DEVICE_FILES
#define VV_MEMFDS (VV_DEVICE_FILES + 1)

extern int vv_memfd[VV_MEMFDS];             /* valid for the life of the process: devices, regions, plain RAM */

int vv_memfds_init(void);                   /* once a process tree; 0 or -1 with errno */
void vv_memfds_reopen(void);                /* once a process: with their first flags */
int vv_memfds_use(u64 slot, int fd);        /* another memfd behind that number; 0 or -1 with errno */
u64 vv_slot_of(u64 memory);                 /* the position in vv_memfd; memory: enum vv_memory, a file's */
int vv_memory_fd(u64 memory);
u64 vv_memory_of_inode(u64 dev, u64 inode); /* enum vv_memory */
