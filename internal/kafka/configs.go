package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// configs asks for values of the configuration of topics or brokers.
func (r *Reader) configs(of kmsg.ConfigResourceType, names []string, keys ...string) ([]kmsg.DescribeConfigsResponseResource, error) {
	answer, err := untilAnswered(func(ctx context.Context) (*kmsg.DescribeConfigsResponse, error) {
		return configsRequest(of, names, keys...).RequestWith(ctx, r.client)
	})
	if err != nil {
		return nil, err
	}
	return answer.Resources, nil
}

func configsRequest(of kmsg.ConfigResourceType, names []string, keys ...string) *kmsg.DescribeConfigsRequest {
	request := kmsg.NewPtrDescribeConfigsRequest()
	for _, name := range names {
		resource := kmsg.NewDescribeConfigsRequestResource()
		resource.ResourceType, resource.ResourceName, resource.ConfigNames = of, name, keys
		request.Resources = append(request.Resources, resource)
	}
	return request
}

func valueOf(entry kmsg.DescribeConfigsResponseResourceConfig) string {
	if entry.Value == nil {
		return ""
	}
	return *entry.Value
}
