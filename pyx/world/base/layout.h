/*
 * A case's layout, as the request carries it.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

#define VV_MAX_DEVICES 4
#define VV_MAX_FILES 8              /* of regions that have a file of their own */
#define VV_DEVICE_FILES (VV_MAX_DEVICES + VV_MAX_FILES)
#define VV_MAX_REGIONS 64
#define VV_MAX_AREAS 256
#define VV_MAX_BLOCKS 256
#define VV_MAX_SEGMENTS 65536

struct vv_device  { u64 mmap_rule, has_region_fds; };           /* enum vv_mmap_rule */
struct vv_region {
    u64 device, index, size;
    u64 flags;                      /* VFIO_REGION_INFO_FLAG_* */
    u64 sparse;                     /* its info has the sparse capability */
    u64 memory, offset;             /* enum vv_memory, and where it begins in that file */
    u64 msix;                       /* enum vv_msix */
};
struct vv_area    { u64 region, offset, size; };                /* region: a position in regions[] */
struct vv_block {
    u64 area;                       /* a position in areas[], VV_NONE for plain RAM */
    u64 size;                       /* of whole pages, as QEMU rounds it */
    u64 touches;                    /* it begins where the block before it ends */
};
struct vv_segment { u64 block, offset, length; };               /* block: a position in blocks[], VV_NONE for nowhere */

/* What one call is to map. */
struct vv_iovec {
    const struct vv_segment *segments;
    u64 n, total_size;              /* total_size: what the caller says that the lengths add up to */
};

/* What a device's driver refuses to map: what lies outside a region, or outside its areas; or nothing, where the regions
 * are ordinary files. The order is part of the wire format: MMAP_RULES in vfio_verify/worker/wire.py. */
enum vv_mmap_rule { VV_BY_REGION, VV_BY_AREAS, VV_BY_NOTHING };

/* A region with the MSI-X table: QEMU cuts the table out of the areas by itself, or the region's info says that it may be
 * mapped. The order is part of the wire format: MSIX in vfio_verify/worker/wire.py. */
enum vv_msix { VV_NO_MSIX, VV_MSIX_CUT, VV_MSIX_MAPPABLE };

struct vv_layout {
    u64 n_devices, n_regions, n_areas, n_blocks;
    const struct vv_device *devices;
    const struct vv_region *regions;
    const struct vv_area *areas;
    const struct vv_block *blocks;
    struct vv_iovec iovec;          /* of the call at hand */
    u64 null_errp;                  /* pass errp == NULL */
    u64 kernel_rules;               /* enum vv_kernel_rules */
    u64 page_size;                  /* of the machine that the subject is told of */
    u64 zeroed;                     /* call the subject that is built with automatic variables zero until they are set */
};

/* Where kernels differ from the newest one; class Kernel in vfio_verify/values/case.py. */
enum vv_kernel_rules {
    VV_MREMAP_UNMAPS = 1,           /* mremap of device memory to a fixed address unmaps that first, then refuses */
    VV_NO_HINTS = 2,                /* an address without MAP_FIXED is not followed */
    VV_NO_NOREPLACE = 4,            /* MAP_FIXED_NOREPLACE is ignored */
    VV_NO_LOCKS = 8,                /* MAP_LOCKED is refused with EAGAIN */
};

/* Below VV_MEM_RAM: the file of the device of that number. From VV_MEM_FILE on: that of a region that has one of its own,
 * VV_MAX_FILES at most. */
enum vv_memory { VV_MEM_RAM = 15, VV_MEM_FILE = 16, VV_MEM_OTHER = 100, VV_MEM_ANONYMOUS = 101 };

static inline bool vv_is_device_memory(u64 memory)
{
    return memory < VV_MAX_DEVICES || (memory >= VV_MEM_FILE && memory < VV_MEM_FILE + VV_MAX_FILES);
}
