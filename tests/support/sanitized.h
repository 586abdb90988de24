/* QR_SANITIZED: this program has a sanitizer's own malloc and stacks. */
#ifndef QR_SANITIZED_H
#define QR_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QR_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define QR_SANITIZED 1
#endif
#endif

#ifndef QR_SANITIZED
#define QR_SANITIZED 0
#endif

#endif
