/* Templates: sections, tables, facts, and the rule that no text of a result becomes HTML. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/report/html.h"
#include "bench/report/template.h"

static void assert_written(qr_value_writer *write, const char *text, const char *json, const char *expected)
{
    char   *filled = NULL;
    size_t  size   = 0;
    FILE   *to     = open_memstream(&filled, &size);
    json_t *root   = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    qr_template_fill(text, strlen(text), root, write, to);
    fclose(to);
    assert_string_equal(filled, expected);
    free(filled);
    json_decref(root);
}

static void assert_filled(const char *text, const char *json, const char *expected)
{
    assert_written(qr_html_value, text, json, expected);
}

static void text_is_escaped_everywhere(void **state)
{
    (void)state;
    assert_filled("{{a}}|{{*o}}{{@}}{{/}}|{{l}}|{{w:shell}}",
                  "{\"a\": \"<b>&\\\"'\", \"o\": {\"<i>\": 1}, \"l\": [\"<\", \"x\"], \"w\": \"it's <\"}",
                  "&lt;b&gt;&amp;&quot;&#39;|&lt;i&gt;|&lt;, x|&#39;it&#39;\\&#39;&#39;s &lt;&#39;");
    assert_filled(
        "{{table rows\nName = @\nHead = v}}", "{\"rows\": {\"<r>\": {\"v\": \"</td>\"}}}",
        "<div class=\"scroll\"><table><thead><tr><th>Name</th><th class=\"text\">Head</th></tr></thead><tbody>\n"
        "<tr><th scope=\"row\">&lt;r&gt;</th><td class=\"text\">&lt;/td&gt;</td></tr>\n</tbody></table></div>\n");
}

static void json_in_a_script_has_no_less_than(void **state)
{
    (void)state;
    assert_filled("{{a:json}}", "{\"a\": [\"</script><!--\"]}", "[\"\\u003c/script>\\u003c!--\"]");
}

static void numbers_have_three_digits_and_groups(void **state)
{
    (void)state;
    assert_filled("{{.}}", "[0, 7, 0.5, 0.0123, 12.34, 99.96, 1234567.8, -1000]",
                  "0, 7, 0.50, 0.012, 12.3, 100, 1\u202f234\u202f568, \u22121\u202f000");
    assert_filled("{{n}} {{missing}}", "{\"n\": null}", "\u2013 \u2013");
}

static void plain_text_stands_in_columns_and_is_not_escaped(void **state)
{
    (void)state;
    assert_written(qr_text_value, "[{{t}}][{{t:%5s}}][{{t:%-5.2s}}][{{*o}}{{@:%4s}}{{/}}]",
                   "{\"t\": \"<&>\", \"o\": {\"a\": 1}}", "[<&>][  <&>][<&   ][   a]");
    assert_written(qr_text_value,
                   "[{{n}}][{{n:%8.2f}}][{{n:%.1f*100}}][{{n:%+.3g}}][{{large:%.4g}}][{{b}}][{{b:B}}][{{yes}}]",
                   "{\"n\": 0.125, \"large\": 90680.4, \"b\": 1536, \"yes\": true}",
                   "[0.125][    0.12][12.5][0.125][90680][1536][1.5 KiB][yes]");
    assert_written(qr_text_value, "[{{none}}][{{none:%8.2f}}]", "{\"none\": null}", "[-][       -]");
}

static void formats_write_units(void **state)
{
    (void)state;
    assert_filled("{{b:B}} {{s:%}} {{s:share}} {{s:%+.1f*100}} {{s:%.2f}} {{s:MHz}} {{r:ratio}} {{p:plain}}",
                  "{\"b\": 33554432, \"s\": 0.25, \"r\": 0.97449, \"p\": 12345.5}",
                  "32 MiB 25 25.0 % +25.0 0.25 0.25 MHz 0.974 12345.5");
    assert_filled("{{#n}}{{.:N}}, {{/}}", "{\"n\": [12, 352000, 4200000, 999600, 596049920, 1.1e9, 2e13]}",
                  "12, 352 k, 4.20 M, 1.00 M, 596 M, 1.10 G, 20.0 T, ");
    assert_filled("{{c:range}}|{{d:range}}", "{\"c\": [1.5, 20], \"d\": [null, 2]}", "1.50 to 20|");
    assert_filled("{{c:check}} {{d:check}}",
                  "{\"c\": {\"unit\": \"%\", \"value\": 11.7}, \"d\": {\"unit\": \"\", \"value\": 1}}", "11.7 % yes");
}

static void a_section_is_written_for_each_element(void **state)
{
    (void)state;
    assert_filled("{{#l}}{{@}}{{.}} {{/}}{{#none}}x{{/}}{{^none}}y{{/}}{{#o}}{{v}}{{/}}{{#zero}}z{{/}}{{#no}}n{{/}}",
                  "{\"l\": [5, 6], \"none\": [], \"o\": {\"v\": 3}, \"zero\": 0, \"no\": false}", "05 16 y3z");
    assert_filled("{{#l}}{{#@=1}}second {{.}}{{/}}{{/}}{{#s=a}}A{{/}}{{^s=a}}B{{/}}", "{\"l\": [5, 6], \"s\": \"a\"}",
                  "second 6A");
}

static void a_path_is_looked_up_in_the_innermost_element_that_has_it(void **state)
{
    (void)state;
    assert_filled("{{#l}}{{a}}{{b}}{{*p}}{{ci/@}}{{/}}{{/}}{{l/0/a}}",
                  "{\"a\": 1, \"b\": 2, \"l\": [{\"a\": 3, \"p\": {\"99.9\": 0}, \"ci\": {\"99.9\": 4}}]}", "3243");
}

static void a_column_without_values_is_left_out(void **state)
{
    (void)state;
    assert_filled("{{table rows\nName = n\nA = a\nB = b\n?C = c}}",
                  "{\"rows\": [{\"n\": \"x\", \"a\": 0, \"c\": 0}, {\"n\": \"y\", \"b\": null, \"c\": 0}]}",
                  "<div class=\"scroll\"><table><thead><tr><th class=\"text\">Name</th><th>A</th></tr></thead><tbody>\n"
                  "<tr><th scope=\"row\">x</th><td>0</td></tr>\n<tr><th scope=\"row\">y</th><td>\u2013</td></tr>\n"
                  "</tbody></table></div>\n");
}

static void a_row_of_a_table_sees_what_is_around_it(void **state)
{
    (void)state;
    assert_filled("{{table runs\nRun = label\nSeed = seed:plain\nV = v}}",
                  "{\"v\": 1, \"runs\": [{\"label\": \"a\", \"seed\": 1234}, {\"label\": \"b\", \"v\": 2}]}",
                  "<div class=\"scroll\"><table><thead><tr><th "
                  "class=\"text\">Run</th><th>Seed</th><th>V</th></tr></thead><tbody>\n"
                  "<tr><th scope=\"row\">a</th><td>1234</td><td>1</td></tr>\n"
                  "<tr><th scope=\"row\">b</th><td>\u2013</td><td>2</td></tr>\n</tbody></table></div>\n");
}

static void facts_leave_out_what_is_unknown(void **state)
{
    (void)state;
    assert_filled(
        "{{facts Machine\ncores = c\nnothing = n\nsmt = s\nmemory = m:B}}",
        "{\"c\": 4, \"n\": null, \"s\": false, \"m\": 1024}",
        "<div><h3>Machine</h3><div class=\"scroll\"><table><tbody>\n"
        "<tr><th scope=\"row\">cores</th><td class=\"text\">4</td></tr>\n"
        "<tr><th scope=\"row\">smt</th><td class=\"text\">no</td></tr>\n"
        "<tr><th scope=\"row\">memory</th><td class=\"text\">1 KiB</td></tr>\n</tbody></table></div></div>\n");
    assert_filled("{{facts Machine\ncores = c}}", "{}", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_escaped_everywhere),
        cmocka_unit_test(json_in_a_script_has_no_less_than),
        cmocka_unit_test(numbers_have_three_digits_and_groups),
        cmocka_unit_test(plain_text_stands_in_columns_and_is_not_escaped),
        cmocka_unit_test(formats_write_units),
        cmocka_unit_test(a_section_is_written_for_each_element),
        cmocka_unit_test(a_path_is_looked_up_in_the_innermost_element_that_has_it),
        cmocka_unit_test(a_column_without_values_is_left_out),
        cmocka_unit_test(a_row_of_a_table_sees_what_is_around_it),
        cmocka_unit_test(facts_leave_out_what_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
