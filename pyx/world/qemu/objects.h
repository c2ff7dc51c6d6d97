/*
 * QEMU's objects for a layout, for the look-ups on them.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/base.h"
#include "vfio_verify/qemu.h"

struct vv_objects {
    VFIOPCIDevice devices[VV_MAX_DEVICES];
    VFIOGroup groups[VV_MAX_DEVICES];
    VFIORegion regions[VV_MAX_REGIONS];
    MemoryRegion region_mem[VV_MAX_REGIONS];
    MemoryRegion bars[VV_MAX_REGIONS];  /* a region's mem lies in its BAR, as in QEMU */
    VFIOMmap mmaps[VV_MAX_AREAS];       /* those of one region follow each other */
    MemoryRegion ram[VV_MAX_BLOCKS];    /* of plain RAM blocks */
    RAMBlock blocks[VV_MAX_BLOCKS];
    MemoryRegion system;
    RAMList ram_list;
    VFIODeviceList devices_list;
    VFIOGroupList groups_list;
};
extern struct vv_objects vv_live;

VFIODevice *vv_device_of(const MemoryRegion *mr);

/* Positions in the layout, for the trace; VV_NONE. */
u64 vv_position_of_block(const RAMBlock *block);
u64 vv_position_of_device(const VFIODevice *vbasedev);
