/* qr_assert: what only a programmer can get wrong. Kept in release builds outside kernels. */
#ifndef QR_BASE_ASSERT_H
#define QR_BASE_ASSERT_H

#define qr_assert(condition) ((condition) ? (void)0 : qr_assert_failed(#condition, __FILE__, __LINE__))

_Noreturn void qr_assert_failed(const char *condition, const char *file, int line);

#endif
