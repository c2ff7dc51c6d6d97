/*
 * What the program and its small scopes have in common (native.c, exhaust.c).
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "model.h"

#define VM_LEFT (1u << 31)          /* the subject did what the model does not have */
#define VM_NO_INPUT (1u << 30)      /* the world cannot have this input */

/* Runs an input, of whose `watched` so many are set as vm_n_watched says. What it violates, and VM_LEFT. */
unsigned vm_run_native(const struct vm_given *given);

extern unsigned vm_hangs;           /* runs that did not return */
extern const char *vm_why_left;     /* of the last run with VM_LEFT: what the model does not have */

/* Runs all of a small scope: layouts of up to so many segments; of these one part of several. */
void vm_exhaust(unsigned segments, unsigned part, unsigned parts);
