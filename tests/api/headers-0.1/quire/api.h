#ifndef QUIRE_API_H
#define QUIRE_API_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__cplusplus)
#define QUIRE_EXTERN extern "C"
#else
#define QUIRE_EXTERN extern
#endif
#if defined(__GNUC__)
#define QUIRE_API QUIRE_EXTERN __attribute__((visibility("default")))
#define QUIRE_NODISCARD __attribute__((warn_unused_result))
#define QUIRE_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define QUIRE_API QUIRE_EXTERN
#define QUIRE_NODISCARD
#define QUIRE_PRINTF(text, first)
#endif
#endif
