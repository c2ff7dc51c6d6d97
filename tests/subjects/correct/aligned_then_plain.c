/* conforms | aligned to 2 MiB where there is room to spare, and to a page elsewhere */

#include "../broken/helper.h"

#define HUGE_PAGE (2 * 1024 * 1024ul)

/* NULL where there is no room; then nothing is mapped. */
static void *reserve_aligned(size_t size)
{
    const size_t room = size + HUGE_PAGE;
    uint8_t *all, *aligned;

    if (room < size || size < HUGE_PAGE) {
        return NULL;
    }
    all = reserve(room, NULL);
    if (!all) {
        return NULL;
    }
    aligned = (uint8_t *)ROUND_UP((uintptr_t)all, HUGE_PAGE);
    if (aligned > all) {
        munmap(all, aligned - all);
    }
    munmap(aligned + ROUND_UP(size, qemu_real_host_page_size()),
           all + room - aligned - ROUND_UP(size, qemu_real_host_page_size()));
    return aligned;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve_aligned(total_size);
    if (!map) {
        map = reserve(total_size, errp);
    }
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
