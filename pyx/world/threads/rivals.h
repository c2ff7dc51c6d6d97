/*
 * The other threads of the process, which look for holes in reservations and grab addresses.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

void vv_look(void);
void vv_grab(u64 *state);           /* state: of vv_below() */

void vv_rivals_init(void);          /* once a process */
void *vv_rival(void *grabs);        /* the life of a thread that looks, or grabs; between the next two: */
void vv_rivals_begin(void);
void vv_rivals_end(void);           /* what was grabbed is given back, in rounds without such threads too */
