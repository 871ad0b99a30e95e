// Input files, and output that is complete or absent.
#include "data/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "data/output.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::write_bytes;

bool is_open(int descriptor) {
    return ::fcntl(descriptor, F_GETFD) >= 0;
}

bool is_own(const std::string& name) {
    return name == "f";
}

std::string text_of(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(FileDescriptor, ClosesOnce) {
    FileDescriptor first = open_descriptor("/dev/null", O_RDONLY);
    const int number = first.get();
    ASSERT_TRUE(first);
    FileDescriptor second = std::move(first);
    EXPECT_FALSE(first);
    EXPECT_TRUE(is_open(number));
    second = open_descriptor("/dev/null", O_WRONLY);
    EXPECT_FALSE(is_open(number)) << "assignment closes what was owned";
    const int other = second.release();
    second.reset();
    EXPECT_TRUE(is_open(other)) << "release() gives it up";
    { const FileDescriptor owner(other); }
    EXPECT_FALSE(is_open(other));
    errno = 0;
    EXPECT_FALSE(open_descriptor("/nowhere/x", O_RDONLY));
    EXPECT_EQ(errno, ENOENT);
}

TEST(Files, InputsThatDoNotExistAreMissing) {
    const test::TempFolder folder;
    const fs::path file = folder.path() / "f";
    write_bytes(file, "x");
    for (const fs::path& missing : {folder.path() / "nowhere", file / "below"}) {
        expect_error(ExitCode::kMissingInput, {missing.string()}, [&] { open_input(missing); });
        expect_error(ExitCode::kMissingInput, {missing.string()}, [&] { read_file(missing, 10); });
        expect_error(ExitCode::kMissingInput, {missing.string()}, [&] { MappedFile{missing}; });
        expect_error(ExitCode::kMissingInput, {missing.string()},
                     [&] { read_in_chunks(missing, [](std::string_view) {}); });
    }
    expect_error(ExitCode::kIo, {folder.path().string(), "Is a directory"},
                 [&] { read_file(folder.path(), 10); });
    expect_error(ExitCode::kCorruptData, {"not a regular file"}, [&] { MappedFile{folder.path()}; });
}

TEST(Files, APathThatExistsIsNotAPattern) {
    const test::TempFolder folder;
    const std::string root = folder.path().string() + "/";
    const std::string odd = "tok[v2] {a,b} *?\\ ~~";
    for (const std::string& name : {odd, std::string("tokv"), std::string("b.txt"), std::string("a.txt")})
        write_bytes(root + name, name);
    EXPECT_EQ(expand_paths(root + odd), (std::vector{root + odd}));
    EXPECT_EQ(expand_paths(root + "tok[v2]"), (std::vector{root + "tokv"}))
        << "a pattern, for want of a file";
    EXPECT_EQ(expand_paths(root + "{b,a}.txt"), (std::vector{root + "a.txt", root + "b.txt"}));
    EXPECT_EQ(expand_paths(root + "nowhere*"), std::vector<std::string>{});
    EXPECT_EQ(expand_paths(root + "{" + std::string(300, 'x') + ",a.txt}"), (std::vector{root + "a.txt"}));
    // Behind a pattern, only escape_glob keeps the name from being one.
    EXPECT_EQ(expand_paths(escape_glob(root + odd) + "*"), (std::vector{root + odd}));
    EXPECT_EQ(expand_paths(escape_glob(root + "tok[v2]") + "*"), (std::vector{root + odd}));
    const fs::path before = fs::current_path();
    fs::current_path(folder.path());
    write_bytes("~", "");
    EXPECT_EQ(expand_paths(escape_glob("~") + "*"), (std::vector<std::string>{"~"}));
    fs::current_path(before);
}

TEST(Files, AMapHoldsTheBytes) {
    const test::TempFolder folder;
    write_bytes(folder.path() / "f", "bytes");
    write_bytes(folder.path() / "empty", "");
    MappedFile file(folder.path() / "f");
    const MappedFile moved(std::move(file));
    EXPECT_EQ(text_of(moved), "bytes");
    EXPECT_EQ(moved.path(), folder.path() / "f");
    EXPECT_EQ(text_of(MappedFile(folder.path() / "empty")), "");
}

TEST(Output, AtomicWriteReplacesOrLeaves) {
    const test::TempFolder folder;
    const fs::path file = folder.path() / "f";
    write_file_atomically(file, "one");
    write_file_atomically(file, "two");
    EXPECT_EQ(read_file(file, 10), "two");
    expect_error(ExitCode::kCorruptData, {file.string()}, [&] { read_file(file, 2); });
    EXPECT_THROW(write_file_atomically(file / "below", "x"), Error);
    EXPECT_EQ(read_file(file, 10), "two");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(Output, AppendsAndOverwrites) {
    const test::TempFolder folder;
    const fs::path file = folder.path() / "f";
    AppendFile(file).write("one");
    AppendFile(file).write("two");
    EXPECT_EQ(read_file(file, 10), "onetwo");
    expect_error(ExitCode::kIo, {"f", "File exists"}, [&] { FileWriter{file}; });
    EXPECT_EQ(read_file(file, 10), "onetwo");
    fs::remove(file);
    FileWriter writer(file);
    writer.write("headbody");
    writer.write_at(0, "HEAD");
    writer.write("!");
    writer.finish();
    EXPECT_EQ(read_file(file, 10), "HEADbody!");
}

// A folder that vanishes while output is written to it is an I/O error (74); 66 is for inputs.
TEST(Output, AFolderThatVanishesIsAnIoError) {
    const test::TempFolder parent;
    const fs::path folder = parent.path() / "out";
    expect_error(ExitCode::kIo, {"out/f", "No such file"}, [&] { FileWriter{folder / "f"}; });
    expect_error(ExitCode::kIo, {"out/f", "No such file"}, [&] { AppendFile{folder / "f"}; });
    expect_error(ExitCode::kIo, {"out/f", "No such file"}, [&] { sync_path(folder / "f"); });
    expect_error(ExitCode::kIo, {"out/g", "No such file"},
                 [&] { rename_durably(folder / "f", folder / "g"); });
    expect_error(ExitCode::kIo, {"out/f", "No such file"}, [&] {
        OutputFile file(folder / "f");
        fs::remove_all(folder);
        file.commit();
    });
    expect_error(ExitCode::kIo, {"out", "No such file"}, [&] {
        OutputFolder output(folder, false, is_own);
        fs::remove_all(output.staging());
        output.commit();
    });
}

TEST(Output, FolderIsCompleteOrAbsent) {
    const test::TempFolder parent;
    const fs::path folder = parent.path() / "out";
    {
        const OutputFolder output(folder, false, is_own);
        write_bytes(output.staging() / "f", "half");
        expect_error(ExitCode::kIo, {"another process"}, [&] { OutputFolder(folder, false, is_own); });
    }
    EXPECT_TRUE(fs::is_empty(parent.path())) << "without commit() nothing is left";
    OutputFolder output(folder, false, is_own);
    write_bytes(output.staging() / "f", "whole");
    output.commit();
    EXPECT_EQ(read_file(folder / "f", 10), "whole");
    EXPECT_EQ(std::distance(fs::directory_iterator(parent.path()), {}), 1);
}

}  // namespace
}  // namespace pastur
