/*
 * What the memory of devices and guests holds, so that each word tells its place.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

int vv_stamps_init(void);                   /* once a process tree; 0 or -1 with errno */
u64 vv_stamp(u64 memory, u64 file_offset);  /* what the 8-byte word at this place holds */
int vv_stamp_pages(u64 memory, u64 file_offset, u64 n_pages);
bool vv_room_for_stamps(u64 pages);
void vv_trim_stamps(void);                  /* gives them back where there are many; between two layouts */
void vv_forget_stamps(void);                /* gives back every page of every memfd */
