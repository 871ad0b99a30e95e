// Multiple-choice questions out of JSON lines, and the rules for their text.
#include "engine/train/scoring/choice_file.h"

#include "engine/train/scoring/text_rules.h"
#include "tests/support/expect_error.h"
#include "tests/support/fuzz.h"
#include "tests/support/source_folder.h"

namespace pastur {
namespace {

using test::Fuzz;
using test::write_bytes;

std::string fixture(const std::string& name) {
    return test::source_file("tests/hf/choices/" + name + ".jsonl");
}

class ChoiceFiles : public testing::Test {
  protected:
    std::string path() const { return folder_.path() / "c.jsonl"; }
    ChoiceFile read(const std::string& text, int64_t limit = 0) const {
        write_bytes(path(), text);
        return read_choices(path(), limit);
    }
    void expect_refused(const std::string& text, std::initializer_list<std::string> parts) const {
        write_bytes(path(), text);
        test::expect_error(ExitCode::kCorruptData, parts, [&] { read_choices(path(), 0); });
    }
    test::TempFolder folder_;
};

TEST_F(ChoiceFiles, HellaSwagIsCleanedAsTheHarnessDoes) {
    const ChoiceFile file = read_choices(fixture("hellaswag"), 0);
    EXPECT_EQ(file.format, ChoiceFormat::kHellaSwag);
    ASSERT_EQ(file.documents.size(), 5u);
    const std::vector<ChoiceDocument>& all = file.documents;
    EXPECT_EQ(all[0].context, "Washing a dog: A girl fills a tub in the garden. The dog");
    EXPECT_EQ(all[0].continuations[3], " paints the fence in one hour");
    EXPECT_EQ(all[1].context, "Baking bread: How to bake bread. Warm the oven. Set it to 220 degrees.");
    EXPECT_EQ(all[1].choices[0], " Leave the door closed. Wait for the light.");
    EXPECT_EQ(all[1].choices[1], "Ask the oven for its name .");
    EXPECT_EQ(all[1].answer, 0u);
    EXPECT_EQ(
        all[2].context,
        "Crossing a river: An old man and his grandson stand at a river. They look at the bridge, which");
    EXPECT_EQ(all[2].choices[2], "[unfinished mark is here");
    EXPECT_EQ(all[3].context, "Élan: Two friends meet. Éva greets ömer and");
    EXPECT_EQ(all[3].choices[3], "walks away slowly  now.");
    EXPECT_EQ(all[3].answer, 2u);
}

TEST_F(ChoiceFiles, ArcAndPiqaAreQuestions) {
    const ChoiceFile arc = read_choices(fixture("arc"), 0), piqa = read_choices(fixture("piqa"), 2);
    EXPECT_EQ(arc.format, ChoiceFormat::kArc);
    EXPECT_EQ(arc.documents.at(1).context, "Question: What does a plant need to grow? \nAnswer:");
    EXPECT_EQ(arc.documents.at(1).answer, 0u);
    EXPECT_EQ(arc.documents.at(2).choices.size(), 5u);
    EXPECT_EQ(arc.documents.at(3).answer, 3u);
    EXPECT_EQ(piqa.format, ChoiceFormat::kPiqa);
    ASSERT_EQ(piqa.documents.size(), 2u);
    EXPECT_EQ(piqa.documents[1].context, "Question: How do you find out whether a door is locked?\nAnswer:");
    EXPECT_EQ(piqa.documents[1].continuations,
              (std::vector<std::string>{" Ask the key.", " Turn the handle and pull."}));
    EXPECT_EQ(piqa.documents[1].answer, 1u);
}

TEST_F(ChoiceFiles, PlainOnesGetASpaceWhereThereIsNone) {
    const ChoiceFile file = read_choices(fixture("plain"), 0);
    ASSERT_EQ(file.documents.size(), 4u);
    EXPECT_EQ(file.documents[0].continuations[0], " fox");
    EXPECT_EQ(file.documents[0].continuations[2], " boy");
    EXPECT_EQ(file.documents[1].continuations[0], "home.");
    EXPECT_EQ(file.documents[2].continuations[0], "The cat sat.");
    EXPECT_EQ(file.documents[2].line, 4);  // a blank line is before it
    EXPECT_EQ(file.documents[3].continuations[1], "3");
    EXPECT_EQ(file.documents[3].answer, 1u);
    const std::string two = "\xef\xbb\xbf{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0}\r\n";
    EXPECT_EQ(read(two + two.substr(3)).documents.size(), 2u);
    EXPECT_EQ(read(test::gzip(two)).documents.size(), 1u);
    EXPECT_EQ(read(two + "garbage", 1).documents.size(), 1u);
}

TEST_F(ChoiceFiles, NamesFileAndLineOfWhatItRefuses) {
    const std::string good = "{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0}\n";
    expect_refused("", {"c.jsonl", "expected a question"});
    expect_refused("\n\n", {"c.jsonl", "expected a question"});
    expect_refused(good + "{\"context\":", {"c.jsonl:2: expected a JSON object on one line"});
    expect_refused(good + "{\"goal\":\"a\"}", {"c.jsonl:2: expected a field \"context\""});
    expect_refused("{\"text\":\"a\"}", {"c.jsonl:1: expected the fields of HellaSwag", "ARC", "PIQA",
                                        "context, choices, answer"});
    expect_refused("{\"context\":1,\"choices\":[\"b\",\"c\"],\"answer\":0}",
                   {":1: expected a string in field \"context\""});
    expect_refused("{\"context\":\"a\",\"choices\":[\"b\",2],\"answer\":0}",
                   {":1: expected a list of strings in field \"choices\""});
    expect_refused("{\"context\":\"a\",\"choices\":{\"b\":\"c\"},\"answer\":0}",
                   {":1: expected a list of strings"});
    expect_refused("{\"context\":\"a\",\"choices\":[\"b\"],\"answer\":0}",
                   {":1: expected two choices or more: there are 1"});
    expect_refused("{\"context\":\"a\",\"choices\":[\"b\",\"\"],\"answer\":0}",
                   {":1: expected text in choice 1"});
    for (const char* answer : {"2", "-1", "\"b\"", "\"\"", "1.0", "null", "99999999999999999999"})
        expect_refused(fmt::format("{{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":{}}}", answer),
                       {":1: expected an index from 0 to 1 in field \"answer\""});
    expect_refused(
        "{\"question\":\"q\",\"choices\":{\"text\":[\"a\",\"b\"],\"label\":[\"A\"]},\"answerKey\":\"A\"}",
        {":1: expected as many labels as texts of choices, 2: there are 1"});
    expect_refused(
        "{\"question\":\"q\",\"choices\":{\"text\":[\"a\",\"b\"],\"label\":[\"A\",\"B\"]},\"answerKey\":\"\\u001bC\"}",
        {":1: expected the label of a choice in field \"answerKey\": it is \"\\u001bC\""});
    expect_refused("{\"question\":\"q\",\"choices\":[1],\"answerKey\":\"A\"}",
                   {":1: expected a field \"text\""});
    expect_refused(good + good.substr(0, 13) + std::string(1 << 20, 'a') + good.substr(12),
                   {":2: expected a line of at most 1 MiB"});
    test::expect_error(ExitCode::kMissingInput, {"c.jsonl.no"}, [&] { read_choices(path() + ".no", 0); });
}

TEST_F(Fuzz, ChoiceFile) {
    std::vector<std::string> seeds;
    for (const char* name : {"hellaswag", "arc", "piqa", "plain"})
        seeds.push_back(test::read_bytes(fixture(name)));
    mutate_and_read("a.jsonl", seeds, 400, [](const std::string& path) { read_choices(path, 0); });
}

TEST(TextRules, AreThoseOfPythonsStrings) {
    EXPECT_EQ(stripped(" \t\n\x1f\xc2\xa0\xe3\x80\x80 a b \xe2\x80\xa9\r\n"), "a b");
    EXPECT_EQ(stripped(" \xe2\x80\x8b "), "\xe2\x80\x8b");  // a zero-width space is none
    EXPECT_EQ(stripped("  "), "");
    EXPECT_EQ(length_without_space("ab \xe2\x80\x83"), 2u);
    EXPECT_EQ(capitalized("hELLO [World] ÄÖ\xc3\xa9"), "Hello [world] äö\xc3\xa9");
    EXPECT_EQ(capitalized("\xc3\xa9t\xc3\x89"), "\xc3\x89t\xc3\xa9");
    EXPECT_EQ(capitalized(""), "");
    EXPECT_EQ(count_words("  one\ttwo\n\n three\xc2\xa0"
                          "four "),
              4);
    EXPECT_EQ(count_words(" \n"), 0);
    EXPECT_EQ(count_characters("a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80"), 4);
}

}  // namespace
}  // namespace pastur
