/*
 * What a device's driver refuses to map.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

bool vv_is_device(int fd, u64 *memory);     /* whether it is the file of a device or of a region of one, and which */

/* vfio-pci's own mmap step: the region's length, rounded up to a page, bounds the mapping. Drivers that are stricter
 * also refuse what lies outside the areas: those of the sparse capability, or the pages of the MSI-X table, as before
 * Linux 4.16. An ordinary file, which a vfio-user server shares, refuses nothing. */
bool vv_device_refuses(u64 memory, u64 offset, u64 length, int flags);
