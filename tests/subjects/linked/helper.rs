// A helper in Rust: what it maps is unmapped when it is dropped, and a map of the heap stays from one call to the next.

use std::collections::HashMap;
use std::io::Error;
use std::os::raw::{c_int, c_void};
use std::sync::Mutex;

#[repr(C)]
#[derive(Clone)]
pub struct Segment {
    base: *mut c_void,
    length: usize,
    fd: c_int,
    offset: u64,
    available: usize,
    device: u32,
    region: u32,
    block: u32,
}

extern "C" {
    fn mmap(at: *mut c_void, length: usize, access: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(at: *mut c_void, length: usize) -> c_int;
    fn sysconf(name: c_int) -> i64;
}

const PROT_NONE: c_int = 0;
const PROT_READ: c_int = 1;
const MAP_SHARED: c_int = 1;
const MAP_PRIVATE: c_int = 2;
const MAP_FIXED: c_int = 0x10;
const MAP_ANONYMOUS: c_int = 0x20;
const SC_PAGESIZE: c_int = 30;
const EINVAL: c_int = 22;

static CALLS: Mutex<Option<HashMap<usize, String>>> = Mutex::new(None);

struct Mapping {
    at: *mut u8,
    size: usize,
    done: usize,
}

fn mapped(at: *mut c_void) -> Result<*mut u8, c_int> {
    if at as isize == -1 {
        return Err(Error::last_os_error().raw_os_error().unwrap());
    }
    Ok(at as *mut u8)
}

impl Mapping {
    fn new(size: usize) -> Result<Self, c_int> {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        let at = mapped(unsafe { mmap(std::ptr::null_mut(), size, PROT_NONE, flags, -1, 0) })?;
        Ok(Mapping { at, size, done: 0 })
    }

    fn add(&mut self, segment: &Segment) -> Result<(), c_int> {
        let flags = MAP_SHARED | MAP_FIXED;
        let (fd, offset) = (segment.fd, segment.offset as i64);
        mapped(unsafe { mmap(self.at.add(self.done) as *mut c_void, segment.length, PROT_READ, flags, fd, offset) })?;
        self.done += segment.length;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unsafe { munmap(self.at as *mut c_void, self.size) };
    }
}

fn map(segments: &[Segment], total: usize) -> Result<*mut c_void, c_int> {
    let list = segments.to_vec();
    let mask = unsafe { sysconf(SC_PAGESIZE) } as usize - 1;
    let mut sum = 0usize;
    CALLS.lock().unwrap().get_or_insert_with(HashMap::new).insert(total % 100, format!("{total} bytes"));
    for one in &list {
        let aligned = (one.base as usize | one.length | one.offset as usize) & mask == 0;
        let inside = one.fd >= 0 && one.block == list[0].block && one.length > 0 && one.length <= one.available;
        if !aligned || !inside {
            return Err(EINVAL);
        }
        sum = sum.checked_add(one.length).ok_or(EINVAL)?;
    }
    if list.is_empty() || sum != total {
        return Err(EINVAL);
    }
    let mut mapping = Mapping::new(total)?;
    for one in &list {
        mapping.add(one)?;
    }
    let at = mapping.at;
    std::mem::forget(mapping);
    Ok(at as *mut c_void)
}

#[no_mangle]
pub unsafe extern "C" fn own_map(first: *const Segment, n: usize, total: usize, address: *mut *mut c_void) -> c_int {
    match map(std::slice::from_raw_parts(first, n), total) {
        Ok(at) => {
            *address = at;
            0
        }
        Err(error) => error,
    }
}
