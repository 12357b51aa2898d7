// Command genproto compiles the given .proto files of the current folder to Go, their services for connect, with
// protocompile in place of protoc so that generating needs nothing but Go. The plugins are pinned in go.mod as tools.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if err := generate(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "genproto:", err)
		os.Exit(1)
	}
}

func generate(files []string) error {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments
	}
	compiled, err := compiler.Compile(context.Background(), files...)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: files}
	services := 0
	for _, file := range compiled {
		if slices.Contains(files, file.Path()) {
			services += file.Services().Len()
		}
		add(request, file)
	}
	if err := run("protoc-gen-go", "paths=source_relative", request); err != nil {
		return err
	}
	if services == 0 {
		return nil
	}
	// Without a suffix the code is in the package of the messages.
	return run("protoc-gen-connect-go", "paths=source_relative,package_suffix=", request)
}

// add adds a file behind those that it imports, as plugins want it.
func add(request *pluginpb.CodeGeneratorRequest, file protoreflect.FileDescriptor) {
	for _, known := range request.ProtoFile {
		if known.GetName() == file.Path() {
			return
		}
	}
	for i := range file.Imports().Len() {
		add(request, file.Imports().Get(i).FileDescriptor)
	}
	request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(file))
}

// run runs one plugin and writes the files that it makes.
func run(name, parameter string, request *pluginpb.CodeGeneratorRequest) error {
	request.Parameter = &parameter
	in, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	plugin := exec.Command("go", "tool", name)
	plugin.Stdin, plugin.Stderr = bytes.NewReader(in), os.Stderr
	out, err := plugin.Output()
	if err != nil {
		return fmt.Errorf("go tool %s: %w", name, err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("%s: %s", name, *response.Error)
	}
	for _, file := range response.File {
		if err := os.WriteFile(filepath.Base(file.GetName()), []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
