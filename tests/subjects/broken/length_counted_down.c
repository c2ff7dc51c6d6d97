/* violates: SURVIVES | counts the pages of a length down to 0, and never ends when the length is misaligned */

#include "helper.h"

static uint64_t count_pages(const struct iovec *iov, unsigned int iov_cnt)
{
    const size_t page = qemu_real_host_page_size();
    uint64_t pages = 0;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        for (volatile size_t left = iov[i].iov_len; left != 0; left -= page) {
            pages++;
        }
    }
    return pages;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    uint64_t pages = count_pages(iov, iov_cnt);
    DmabufSource source;
    size_t total;
    void *map;

    if (pages == 0) {
        error_setg(errp, "no pages");
        return NULL;
    }
    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}
