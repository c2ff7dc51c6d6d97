/*
 * The process that vfio_verify/worker/process.py starts. A C subject's is this program, in which there is no Python; the
 * core needs Python, which calls vv_main() with the same arguments.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "confine/confine.h"
#include "main.h"
#include "serve.h"

enum argument { CONTROL = 1, DATA, MEMORY, REQUESTS, REPLIES, LIBRARY, PARTS, READABLE };

static u64 number(const char *word)
{
    return strtoull(word, NULL, 10);
}

static int complain(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

int vv_main(int argc, char **argv)
{
    u64 requests, replies, bytes;
    struct stat memory;
    void *shared;
    int i;

    if (argc < READABLE) {
        fprintf(stderr, "this program is started by vfio-verify\n");
        return 2;
    }
    requests = number(argv[REQUESTS]);
    replies = number(argv[REPLIES]);
    vv_confine_with(number(argv[PARTS]));
    for (i = READABLE; i < argc; i++) {
        if (vv_confine_allow(argv[i]) < 0) {
            return complain(argv[i]);
        }
    }
    bytes = VV_SHARED_BYTES(requests, replies);
    if (fstat((int)number(argv[MEMORY]), &memory) == 0 && (u64)memory.st_size < bytes) {
        errno = EOVERFLOW;          /* what is written behind its end would be SIGBUS */
        return complain("the shared memory is smaller than its parts");
    }
    shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, (int)number(argv[MEMORY]), 0);
    if (shared == MAP_FAILED) {
        return complain("the shared memory cannot be mapped");
    }
    if (vv_serve((int)number(argv[CONTROL]), (int)number(argv[DATA]), shared, requests, replies, argv[LIBRARY]) < 0) {
        return complain("the world cannot be set up");
    }
    return 0;
}

int main(int argc, char **argv)
{
    _exit(vv_main(argc, argv));         /* there is nothing to give back */
}
