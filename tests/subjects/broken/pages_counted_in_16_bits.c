/* violates: CONFINED | only when the dmabuf has 65,536 pages or more: counts the pages to reserve in 16 bits */
/* may violate: CONTIGUOUS, CONTENTS, READ_ONLY, REPEATABLE, UNMAP_ON_ERROR */

#include "helper.h"

bool vfio_dmabuf_mmap(struct iovec *iov, unsigned int iov_cnt, void **addr,
                      size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    DmabufSource source;
    uint16_t pages;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    pages = total_size / page;
    if (pages == 0) {
        pages = 1;
    }
    map = reserve(pages * page, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, pages * page);
        return false;
    }
    *addr = map;
    return true;
}
