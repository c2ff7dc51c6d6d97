/*
 * The system's headers that QEMU code finds already included, and what a system's <linux/vfio.h> may
 * lack. None of their names gives way to a source's (qemu.h).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_SYSTEM_H
#define VFIO_VERIFY_SYSTEM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <linux/types.h>
#if defined(__has_include)
#if __has_include(<linux/vfio.h>)
#include <linux/vfio.h>
#define VFIO_VERIFY_HAVE_LINUX_VFIO_H 1
#endif
#endif

/* ---- the kernel's interface, where the system's headers lack it --------------------------------- */

#ifndef VFIO_VERIFY_HAVE_LINUX_VFIO_H
struct vfio_region_info {
    __u32 argsz;
    __u32 flags;
    __u32 index;
    __u32 cap_offset;
    __u64 size;
    __u64 offset;
};

#define VFIO_REGION_INFO_FLAG_READ (1 << 0)
#define VFIO_REGION_INFO_FLAG_WRITE (1 << 1)
#define VFIO_REGION_INFO_FLAG_MMAP (1 << 2)
#define VFIO_REGION_INFO_FLAG_CAPS (1 << 3)

enum {
    VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR1_REGION_INDEX,
    VFIO_PCI_BAR2_REGION_INDEX,
    VFIO_PCI_BAR3_REGION_INDEX,
    VFIO_PCI_BAR4_REGION_INDEX,
    VFIO_PCI_BAR5_REGION_INDEX,
    VFIO_PCI_ROM_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_VGA_REGION_INDEX,
    VFIO_PCI_NUM_REGIONS,
};

struct vfio_info_cap_header {
    __u16 id;
    __u16 version;
    __u32 next;
};

#define VFIO_REGION_INFO_CAP_SPARSE_MMAP 1

struct vfio_region_sparse_mmap_area {
    __u64 offset;
    __u64 size;
};

struct vfio_region_info_cap_sparse_mmap {
    struct vfio_info_cap_header header;
    __u32 nr_areas;
    __u32 reserved;
    struct vfio_region_sparse_mmap_area areas[];
};

struct vfio_device_feature {
    __u32 argsz;
    __u32 flags;
    __u8 data[];
};

#define VFIO_DEVICE_FEATURE_GET (1 << 16)
#define VFIO_DEVICE_FEATURE_SET (1 << 17)
#define VFIO_DEVICE_FEATURE_PROBE (1 << 18)
#endif

/* In the kernel's headers from Linux 4.16 on. */
#ifndef VFIO_REGION_INFO_CAP_MSIX_MAPPABLE
#define VFIO_REGION_INFO_CAP_MSIX_MAPPABLE 3
#endif

/* In the kernel's headers from Linux 6.19 on. */
#ifndef VFIO_DEVICE_FEATURE_DMA_BUF
#define VFIO_DEVICE_FEATURE_DMA_BUF 11

struct vfio_region_dma_range {
    __u64 offset;
    __u64 length;
};

struct vfio_device_feature_dma_buf {
    __u32 region_index;
    __u32 open_flags;
    __u32 flags;
    __u32 nr_ranges;
    struct vfio_region_dma_range dma_ranges[];
};
#endif

#endif
