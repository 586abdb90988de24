/* Functions whose last bit differs between math libraries, made of operations whose bits IEEE 754 fixes: simulated
 * results and workloads are the same on every machine. Errors are a few units in the last place; not for kernels. */
#ifndef QR_BENCH_PORTABLE_MATH_H
#define QR_BENCH_PORTABLE_MATH_H

double qr_portable_log(double x); /* natural; 0: -INFINITY, below: NAN */
double qr_portable_exp(double x);
double qr_portable_pow(double x, double y); /* x >= 0 */
double qr_portable_gamma(double x);         /* x >= 1; the factorial of x - 1 */

#endif
