/* conforms | reserves two guard pages more, of the size that the host tells, and gives them back */

#include "../broken/helper.h"

/* The range between two guard pages, which are given back at once. */
static char *reserve_guarded(size_t size, Error **errp)
{
    const size_t page = sysconf(_SC_PAGESIZE);
    const size_t bytes = (size + page - 1) / page * page;
    char *map = reserve(bytes + 2 * page, errp);

    if (!map) {
        return NULL;
    }
    if (munmap(map, page) < 0) {
        error_setg_errno(errp, errno, "cannot give the first guard page back");
        munmap(map, bytes + 2 * page);
        return NULL;
    }
    if (munmap(map + page + bytes, page) < 0) {
        error_setg_errno(errp, errno, "cannot give the last guard page back");
        munmap(map + page, bytes + page);
        return NULL;
    }
    return map + page;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve_guarded(total_size, errp);
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
