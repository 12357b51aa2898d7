package grpcin

import (
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of the server's own services
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"kafkagrpc/topology"
	"kafkagrpc/wire/rawcodec"
)

// OwnServices are those that a server answers by itself: each that no route names when it is made.
var OwnServices = []string{
	grpc_health_v1.Health_ServiceDesc.ServiceName, reflectionv1.ServerReflection_ServiceDesc.ServiceName, reflectionv1alpha.ServerReflection_ServiceDesc.ServiceName,
}

// registerOwn adds the services that the server answers by itself: those that no route names.
func (s *Server) registerOwn(to *grpc.Server) {
	told := reflection.ServerOptions{Services: services{s}, DescriptorResolver: descriptors{s}}
	for _, own := range []struct {
		service  *grpc.ServiceDesc
		register func()
	}{
		{&grpc_health_v1.Health_ServiceDesc, func() { grpc_health_v1.RegisterHealthServer(to, s.health) }},
		{&reflectionv1.ServerReflection_ServiceDesc, func() {
			reflectionv1.RegisterServerReflectionServer(to, reflection.NewServerV1(told))
		}},
		{&reflectionv1alpha.ServerReflection_ServiceDesc, func() {
			reflectionv1alpha.RegisterServerReflectionServer(to, reflection.NewServer(told))
		}},
	} {
		if !named(s.options.Listener.Routes, own.service.ServiceName) {
			own.register()
		}
	}
}

// named reports whether a route names the service, so that its calls go to Kafka. A route for everything does not.
func named(routes []topology.NorthRoute, service string) bool {
	return slices.ContainsFunc(routes, func(r topology.NorthRoute) bool { return r.Names(service) })
}

// services are what reflection lists: those of the catalogs of which a route takes a method, and the server's own.
type services struct{ *Server }

// GetServiceInfo implements [reflection.ServiceInfoProvider], which needs the names only.
func (s services) GetServiceInfo() map[string]grpc.ServiceInfo {
	all := s.server.GetServiceInfo()
	now := s.table.Load()
	for name := range now.methods {
		if !slices.ContainsFunc(now.Routes, func(r topology.NorthRoute) bool { return r.Matches(name) }) {
			continue
		}
		if service := name[:strings.LastIndexByte(name, '/')]; s.known(service) {
			all[service] = grpc.ServiceInfo{}
		}
	}
	return all
}

func (s services) known(service string) bool {
	_, err := s.table.Load().protos.FindDescriptorByName(protoreflect.FullName(service))
	return err == nil
}

// descriptors are those of the catalogs, then those of the program: of its own services, and what those import.
type descriptors struct{ *Server }

func (d descriptors) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if f, err := d.table.Load().protos.FindFileByPath(path); err == nil {
		return f, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

func (d descriptors) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if f, err := d.table.Load().protos.FindDescriptorByName(name); err == nil {
		return f, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

// codec passes the bytes of calls through, and takes the messages of the server's own services as protobuf.
type codec struct{ rawcodec.Codec }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if _, raw := v.(*[]byte); !raw {
		return encoding.GetCodecV2(c.Name()).Marshal(v)
	}
	return c.Codec.Marshal(v)
}

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, raw := v.(*[]byte); !raw {
		return encoding.GetCodecV2(c.Name()).Unmarshal(data, v)
	}
	return c.Codec.Unmarshal(data, v)
}
