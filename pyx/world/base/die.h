/*
 * The end of a process, and its last words.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

void vv_ends(const void *context);  /* leaves for the parent where this process ends; a signal's context, or NULL */

/* The subject did what ends a QEMU process (abort, assertion, error set twice...). The text is left for the parent, and
 * the process dies by SIGABRT. */
_Noreturn void vv_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, for what a judge asks for. */
enum vv_death { VV_DEATH_ERROR_SET_TWICE = 1, VV_DEATH_ASSERTION = 2 };
_Noreturn void vv_die_of(enum vv_death code, const char *format, ...) __attribute__((format(printf, 2, 3)));
