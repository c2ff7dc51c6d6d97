/* conforms | a page more at both ends, given back before the first overlay */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    DmabufSource source;
    uint8_t *all, *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (total_size > SIZE_MAX - 2 * page) {
        error_setg(errp, "%zu bytes are too many", total_size);
        return false;
    }
    all = reserve(total_size + 2 * page, errp);
    if (!all) {
        return false;
    }
    map = all + page;
    munmap(all, page);
    munmap(map + total_size, page);
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
