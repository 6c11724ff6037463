//! Topics, filters and a lock-free topic router.
