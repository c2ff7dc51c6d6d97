/*
 * The process that forks workers, from its arguments.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

/* Behind the program's name: the descriptors of the control and data sockets and of the shared memory, the bytes of
 * requests and replies in it, the subject's shared object or an empty word for the core, the sandbox's parts
 * (enum vv_confine_parts), and each path that the subject may read. Returns an exit status; what is wrong stands on
 * standard error. */
int vv_main(int argc, char **argv);
