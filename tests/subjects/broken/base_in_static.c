/* violates: REPEATABLE | keeps the reservation in a static variable while it overlays: another thread's call changes it */
/* may violate: CONFINED, SURVIVES */

#include "helper.h"

static char *base;

/* Each entry is looked up again: its block may have gone. */
static bool overlay_at(size_t done, const struct iovec *entry,
                       const DmabufSource *source, Error **errp)
{
    ram_addr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(entry->iov_base, false, &offset);

    if (block != source->block) {
        error_setg(errp, "%p is no longer in its RAM block", entry->iov_base);
        return false;
    }
    return overlay(base + done, entry->iov_len, source, entry->iov_base, errp);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t done = 0;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    base = reserve(total_size, errp);
    if (!base) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!overlay_at(done, &iov[i], &source, errp)) {
            munmap(base, total_size);
            return false;
        }
        done += iov[i].iov_len;
    }
    *addr = base;
    return true;
}
