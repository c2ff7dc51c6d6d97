/* violates: SAME_BLOCK | compares entries two by two (0 with 1, 2 with 3): a change of block between pairs passes */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

static bool same_block_throughout(RAMBlock *const *blocks, unsigned int n)
{
    for (unsigned int i = 0; i + 1 < n; i += 2) {
        if (blocks[i] != blocks[i + 1]) {
            return false;
        }
    }
    return n % 2 == 0 || n < 2 || blocks[n - 2] == blocks[n - 1];
}

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    g_autofree RAMBlock **blocks = g_new0(RAMBlock *, res->iov_cnt);
    DmabufSource source;
    size_t sum = 0;
    char *map, *at;

    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        blocks[i] = check_entry(&res->iov[i], NULL);
        if (!blocks[i] ||
            __builtin_add_overflow(sum, res->iov[i].iov_len, &sum)) {
            return MAP_FAILED;
        }
    }
    if (!vdev || sum != res->blob_size ||
        !same_block_throughout(blocks, res->iov_cnt)) {
        return MAP_FAILED;
    }
    map = at = reserve(res->blob_size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        if (!find_source(blocks[i], &source, NULL) ||
            !overlay(at, res->iov[i].iov_len, &source, res->iov[i].iov_base,
                     NULL)) {
            munmap(map, sum);
            return MAP_FAILED;
        }
        at += res->iov[i].iov_len;
    }
    return map;
}
