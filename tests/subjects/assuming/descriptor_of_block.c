/* assuming RAMBlock.fd=device conforms | maps from the RAMBlock's own descriptor, as memory of a memfd is mapped */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    RAMBlock *block;
    size_t sum;
    void *map;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp) ||
        !check_size(sum, total_size, errp)) {
        return false;
    }
    if (!memory_region_is_ram_device(block->mr)) {
        error_setg(errp, "not a device's memory");
        return false;
    }
    if (block->fd < 0) {
        error_setg(errp, "the block has no descriptor");
        return false;
    }
    map = reserve(total_size, errp);
    if (map) {
        const DmabufSource source = {block, block->fd, block->fd_offset};

        if (overlay_all(map, iov, iov_cnt, &source, errp)) {
            *addr = map;
            return true;
        }
        munmap(map, total_size);
    }
    return false;
}
