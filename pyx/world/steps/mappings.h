/*
 * The system calls of a subject that map and unmap. The world makes them on its behalf, too.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <sys/types.h>

void *vv_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int vv_munmap(void *addr, size_t length);
int vv_mprotect(void *addr, size_t length, int prot);
void *vv_mremap(void *addr, size_t old_length, size_t new_length, int flags, void *new_addr);
int vv_madvise(void *addr, size_t length, int advice);
