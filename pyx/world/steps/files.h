/*
 * The system calls of a subject that open and close descriptors.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

int vv_dup(int fd);
int vv_dup_as(long number, int fd, int target, int flags);  /* by the system call of that number, in a call; target: -1, or chosen */
int vv_close(int fd);
int vv_close_range(unsigned int first, unsigned int last, int flags);
int vv_fclose(FILE *stream);
int vv_openat(int directory, const char *path, int flags, mode_t mode);
int vv_fcntl(int fd, int command, long value);
