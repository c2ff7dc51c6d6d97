/*
 * The look-up that the core is handed. Its own text knows nothing else of the model.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <stdint.h>

/* The memory of a device that a RAMBlock is, and where it begins in its descriptor. */
struct vm_device_memory { unsigned block; int fd; uint64_t host, size, offset; };

int vm_find_device_memory(uint64_t address, struct vm_device_memory *found);    /* 0, or an errno */
