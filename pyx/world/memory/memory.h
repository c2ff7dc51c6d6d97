/*
 * The memory of the world.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/base.h"

/* ---- memfds.c: the files behind all memory that a subject maps ---------------------------------- */

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

/* ---- stamps.c: what is written there, so that each word tells its place ------------------------- */

int vv_stamps_init(void);                   /* once a process tree; 0 or -1 with errno */
u64 vv_stamp(u64 memory, u64 file_offset);  /* what the 8-byte word at this place holds */
int vv_stamp_pages(u64 memory, u64 file_offset, u64 n_pages);
bool vv_room_for_stamps(u64 pages);
void vv_trim_stamps(void);                  /* gives them back where there are many; between two layouts */
void vv_forget_stamps(void);                /* gives back every page of every memfd */

/* ---- memory.c: what is real once a layout is set up --------------------------------------------- */

#define VV_HUGE_BYTES (2ull << 20)

struct vv_world {
    struct vv_layout layout;
    u64 n_files;                            /* regions of this layout that have a file of their own */
    uint8_t *block_host[VV_MAX_BLOCKS];     /* where block i is mapped */
    u64 block_file_offset[VV_MAX_BLOCKS];   /* in its device's (or the RAM's) memfd */
    struct iovec *iov;                      /* the segments as host addresses; filled anew before each call */
};
extern struct vv_world vv_world;

int vv_memory_init(void);                   /* once a process tree; 0 or -1 with errno */
int vv_memory_build(const struct vv_layout *layout, u64 align);     /* maps the RAM blocks; align: in bytes */
bool vv_memory_in_arena(u64 address);
bool vv_slot_in_use(u64 slot);              /* whether the layout has this device, or region with a file */
u64 vv_block_at(u64 address);               /* which block holds a host address; VV_NONE if none does */
u64 vv_block_memory(u64 block);             /* enum vv_memory */
bool vv_block_is_writable(u64 block);       /* whether the guest may write to it */
u64 vv_segment_file_offset(const struct vv_segment *segment, u64 *memory);  /* VV_NONE if in no block */
void vv_take_iovec(const struct vv_iovec *iovec);       /* of another call in the same world */
void vv_fill_iov(struct iovec *iov, const struct vv_iovec *iovec);
int vv_drop_block(u64 block);               /* nothing is mapped at its host address any more */
