/*
 * Guest memory as QEMU has it: RAMBlock, MemoryRegion, and what finds one from a host address.
 *
 * These objects are the world's, made by it and read by the subject. A source that brings its own
 * struct RAMBlock or struct MemoryRegion cannot use the world's objects, which are laid out as below.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_MEMORY_H
#define VFIO_VERIFY_MEMORY_H

#include "vfio_verify/error.h"
#include "vfio_verify/queue.h"

/* ---- objects and devices ------------------------------------------------------------------------ */

typedef struct Object {
    const char *type;               /* name of its class */
    struct Object *parent;
    uint32_t ref;
} Object;

typedef struct DeviceState {
    Object parent_obj;
    char *id;
    char *canonical_path;
    bool realized;
    bool hotplugged;
} DeviceState;

typedef struct PCIDevice {
    DeviceState qdev;
    int32_t devfn;
    char name[64];
} PCIDevice;

/* NULL when the object is not of that class or of one derived from it. */
struct Object *object_dynamic_cast(struct Object *object, const char *type);
const char *object_get_typename(const struct Object *object);
void *object_ref(void *object);
void object_unref(void *object);

/* Ends the process when the object is of another class, as QEMU's checked casts do. */
void *vfio_verify_cast(const void *object, const char *type, const char *file, int line, const char *function);
#define VFIO_VERIFY_CAST(to, object, type) \
    ((to *)vfio_verify_cast((object), (type), __FILE__, __LINE__, __func__))

#define OBJECT(object) ((struct Object *)(void *)(object))
#define OBJECT_CHECK(to, object, type) VFIO_VERIFY_CAST(to, object, type)
#define TYPE_DEVICE "device"
#define DEVICE(object) VFIO_VERIFY_CAST(struct DeviceState, object, "device")
#define TYPE_PCI_DEVICE "pci-device"
#define PCI_DEVICE(object) VFIO_VERIFY_CAST(struct PCIDevice, object, "pci-device")
#define TYPE_MEMORY_REGION "memory-region"
#define MEMORY_REGION(object) VFIO_VERIFY_CAST(struct MemoryRegion, object, "memory-region")

/* ---- addresses ------------------------------------------------------------------------------------ */

/* An address among all the guest's RAM blocks, or an offset in one of them. */
typedef uintptr_t ram_addr_t;

#define RAM_ADDR_FMT "%" PRIxPTR
#define RAM_ADDR_MAX UINTPTR_MAX
#define RAM_ADDR_INVALID (~(uintptr_t)0)

/* A guest physical address. */
typedef uint64_t hwaddr;

#define HWADDR_PRIx PRIx64
#define HWADDR_PRIX PRIX64
#define HWADDR_PRIu PRIu64
#define HWADDR_PRId PRId64
#define HWADDR_FMT_plx "%016" PRIx64
#define HWADDR_BITS 64
#define HWADDR_MAX UINT64_MAX

/* ---- RAMBlock --------------------------------------------------------------------------------------- */

#define RAM_PREALLOC (1 << 0)
#define RAM_SHARED (1 << 1)

typedef struct RAMBlock {
    struct MemoryRegion *mr;
    uint8_t *host;                  /* where the host has it mapped */
    uintptr_t offset;               /* among all RAM blocks: a ram_addr_t */
    uintptr_t used_length;          /* bytes */
    uintptr_t max_length;           /* bytes */
    uint32_t flags;
    char idstr[256];
    struct {                        /* QLIST_ENTRY(RAMBlock) */
        struct RAMBlock *le_next;
        struct RAMBlock **le_prev;
    } next;
    int fd;                         /* -1 for memory that was mapped elsewhere, as a device's is */
    uint64_t fd_offset;
    size_t page_size;
} RAMBlock;

typedef struct RAMList {
    struct RAMBlock *mru_block;
    struct {                        /* QLIST_HEAD(, RAMBlock) */
        struct RAMBlock *lh_first;
    } blocks;
    uint32_t version;
} RAMList;

extern RAMList ram_list;

#define RAMBLOCK_FOREACH(block) \
    for ((block) = ram_list.blocks.lh_first; (block) != NULL; (block) = (block)->next.le_next)

/* The block with host <= pointer < host + max_length, and the offset in it; NULL if there is none. */
struct RAMBlock *qemu_ram_block_from_host(void *pointer, bool round_offset, uintptr_t *offset);
uintptr_t qemu_ram_block_host_offset(struct RAMBlock *block, void *host);
struct RAMBlock *qemu_ram_block_by_name(const char *name);
uintptr_t qemu_ram_addr_from_host(void *pointer);
void *qemu_ram_get_host_addr(struct RAMBlock *block);
uintptr_t qemu_ram_get_offset(struct RAMBlock *block);
uintptr_t qemu_ram_get_fd_offset(struct RAMBlock *block);
uintptr_t qemu_ram_get_used_length(struct RAMBlock *block);
uintptr_t qemu_ram_get_max_length(struct RAMBlock *block);
const char *qemu_ram_get_idstr(struct RAMBlock *block);
int qemu_ram_get_fd(struct RAMBlock *block);
size_t qemu_ram_pagesize(struct RAMBlock *block);
bool qemu_ram_is_shared(struct RAMBlock *block);
void *qemu_map_ram_ptr(struct RAMBlock *block, uintptr_t offset);

/* ---- mapping RAM: a PROT_NONE reservation, the memory over it, one guard page behind ----------- */

#define QEMU_MAP_READONLY (1 << 0)
#define QEMU_MAP_SHARED (1 << 1)
#define QEMU_MAP_SYNC (1 << 2)
#define QEMU_MAP_NORESERVE (1 << 3)

void *qemu_ram_mmap(int fd, size_t size, size_t align, uint32_t flags, off_t offset);
void qemu_ram_munmap(int fd, void *pointer, size_t size);

/* ---- MemoryRegion ----------------------------------------------------------------------------------- */

typedef struct MemoryRegionOps {
    uint64_t (*read)(void *opaque, uint64_t addr, unsigned int size);
    void (*write)(void *opaque, uint64_t addr, uint64_t data, unsigned int size);
    int endianness;
} MemoryRegionOps;

typedef struct MemoryRegion {
    Object parent_obj;
    bool romd_mode;
    bool ram;
    bool subpage;
    bool readonly;
    bool nonvolatile;
    bool rom_device;
    bool is_iommu;
    bool ram_device;                /* memory of a device, mapped into the guest */
    bool enabled;
    bool terminates;
    struct RAMBlock *ram_block;     /* NULL for what is no RAM */
    struct Object *owner;
    struct DeviceState *dev;        /* the owner as a device, NULL if it is none */
    const struct MemoryRegionOps *ops;
    void *opaque;                   /* for ops: the VFIORegion where ops is &vfio_region_ops */
    struct MemoryRegion *container; /* NULL for the root */
    int mapped_via_alias;
    Int128 size;                    /* bytes */
    uint64_t addr;                  /* bytes from the start of the container */
    uint64_t align;
    struct MemoryRegion *alias;
    uint64_t alias_offset;
    int32_t priority;
    struct {                        /* QTAILQ_HEAD(, MemoryRegion) */
        struct MemoryRegion *tqh_first;
        struct MemoryRegion **tqh_last;
    } subregions;
    struct {                        /* QTAILQ_ENTRY(MemoryRegion) */
        struct MemoryRegion *tqe_next;
        struct MemoryRegion **tqe_prev;
    } subregions_link;
    const char *name;
} MemoryRegion;

struct MemoryRegion *get_system_memory(void);
struct Object *memory_region_owner(struct MemoryRegion *mr);
const char *memory_region_name(const struct MemoryRegion *mr);
uint64_t memory_region_size(struct MemoryRegion *mr);
bool memory_region_is_ram(struct MemoryRegion *mr);
bool memory_region_is_ram_device(struct MemoryRegion *mr);
bool memory_region_is_rom(struct MemoryRegion *mr);
bool memory_region_is_romd(struct MemoryRegion *mr);
bool memory_region_is_mapped(struct MemoryRegion *mr);
void *memory_region_get_ram_ptr(struct MemoryRegion *mr);
uintptr_t memory_region_get_ram_addr(struct MemoryRegion *mr);
int memory_region_get_fd(struct MemoryRegion *mr);
struct MemoryRegion *memory_region_from_host(void *pointer, uintptr_t *offset);

/* References are counted: a call drops all that it takes, and no other. */
void memory_region_ref(struct MemoryRegion *mr);
void memory_region_unref(struct MemoryRegion *mr);

/* ---- RCU: nothing is reclaimed while a subject runs, but each lock must be given back ------------ */

int vfio_verify_rcu_enter(void);
void vfio_verify_rcu_leave(const int *guard);

#define rcu_read_lock() ((void)vfio_verify_rcu_enter())
#define rcu_read_unlock() vfio_verify_rcu_leave(NULL)

#define VFIO_VERIFY_RCU_GUARD \
    const int vfio_verify_rcu_guard __attribute__((unused, cleanup(vfio_verify_rcu_leave))) = vfio_verify_rcu_enter()

#define RCU_READ_LOCK_GUARD() VFIO_VERIFY_RCU_GUARD

/* As in QEMU the block is a loop of one turn: break leaves it, and return unlocks. */
#define WITH_RCU_READ_LOCK_GUARD()                                                   \
    for (VFIO_VERIFY_RCU_GUARD, *vfio_verify_rcu_once = &vfio_verify_rcu_guard;      \
         vfio_verify_rcu_once; vfio_verify_rcu_once = NULL)

#endif
