package topology

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"reflect"
	"regexp"
	"slices"

	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// publicKey is one of the standard library.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// same reports whether two values of one type mean the same. Functions do, as they come with what they are made of, unless only one is there. Of structs the exported fields count.
func same(a, b reflect.Value) bool {
	if a.IsValid() != b.IsValid() || !a.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Type() != b.Type() {
		return false
	}
	switch x := a.Interface().(type) {
	case *x509.CertPool:
		y := b.Interface().(*x509.CertPool)
		return x == y || x != nil && y != nil && x.Equal(y)
	case *x509.Certificate:
		y := b.Interface().(*x509.Certificate)
		return x == y || x != nil && x.Equal(y)
	case publicKey:
		return x.Equal(b.Interface())
	case *regexp.Regexp:
		y := b.Interface().(*regexp.Regexp)
		return x == y || x != nil && y != nil && x.String() == y.String()
	case *Cluster:
		y := b.Interface().(*Cluster)
		return x == y || x != nil && y != nil && x.Binding == y.Binding // what they are is compared once
	case tls.Certificate:
		return slices.EqualFunc(x.Certificate, b.Interface().(tls.Certificate).Certificate, slices.Equal)
	case Protos:
		return slices.EqualFunc(x.files, b.Interface().(Protos).files, func(f, g linker.File) bool { return sameFile(f, g, map[string]bool{}) })
	case protoreflect.Descriptor:
		y := b.Interface().(protoreflect.Descriptor)
		return x.FullName() == y.FullName() && sameFile(x.ParentFile(), y.ParentFile(), map[string]bool{})
	}
	switch a.Kind() {
	case reflect.Func:
		return a.IsNil() == b.IsNil()
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return a.Kind() == reflect.Pointer && a.Pointer() == b.Pointer() || same(a.Elem(), b.Elem())
	case reflect.Struct:
		if !slices.ContainsFunc(reflect.VisibleFields(a.Type()), func(f reflect.StructField) bool { return f.IsExported() }) {
			return a.Comparable() && a.Equal(b) // such as an address
		}
		for i := range a.NumField() {
			if a.Type().Field(i).IsExported() && !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for _, k := range a.MapKeys() {
			if v := b.MapIndex(k); !v.IsValid() || !same(a.MapIndex(k), v) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}

// sameFile reports whether two protos, with all that they import, say the same. Done are the paths of those that were looked at.
func sameFile(a, b protoreflect.FileDescriptor, done map[string]bool) bool {
	if a == b || done[a.Path()] {
		return true
	}
	done[a.Path()] = true
	if !proto.Equal(protodesc.ToFileDescriptorProto(a), protodesc.ToFileDescriptorProto(b)) {
		return false
	}
	for i := range a.Imports().Len() {
		if !sameFile(a.Imports().Get(i).FileDescriptor, b.Imports().Get(i).FileDescriptor, done) {
			return false
		}
	}
	return true
}
