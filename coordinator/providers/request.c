/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "coordinator/providers/request.h"

#include <fcntl.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/id.h"

int fd_list_add(struct fd_list *list, int fd)
{
	if (list->n >= PROVIDER_FDS_MAX) {
		close(fd);
		return -1;
	}
	list->fds[list->n] = fd;
	return (int)list->n++;
}

const char *request_string(const json_t *object, const char *key, struct err *err)
{
	const char *value = json_string_value(json_object_get(object, key));

	if (!value)
		err_set(err, VSS_E_INVALID_ARGUMENT, "The request to the worker lacks the string \"%s\"", key);
	return value;
}

const char *request_id(const json_t *object, const char *key, struct err *err)
{
	const char *value = request_string(object, key, err);

	if (value && !id_is_valid(value)) {
		err_set(err, VSS_E_INVALID_ARGUMENT, "\"%s\" of the request to the worker is not an id: %.100s", key,
			value);
		return NULL;
	}
	return value;
}

json_t *request_object(const json_t *object, const char *key, struct err *err)
{
	json_t *value = json_object_get(object, key);

	if (json_is_object(value))
		return value;
	err_set(err, VSS_E_INVALID_ARGUMENT, "The request to the worker lacks the object \"%s\"", key);
	return NULL;
}

json_t *request_array(const json_t *object, const char *key, struct err *err)
{
	json_t *value = json_object_get(object, key);

	if (json_is_array(value))
		return value;
	err_set(err, VSS_E_INVALID_ARGUMENT, "The request to the worker lacks the array \"%s\"", key);
	return NULL;
}

int request_fd(const json_t *object, const char *key, const struct fd_list *fds, struct err *err)
{
	json_t *index = json_object_get(object, key);

	if (!json_is_integer(index))
		return err_set(err, VSS_E_INVALID_ARGUMENT, "The request to the worker lacks the descriptor \"%s\"",
			       key);
	if (json_integer_value(index) < 0 || (size_t)json_integer_value(index) >= fds->n)
		return err_set(err, VSS_E_INVALID_ARGUMENT,
			       "Descriptor \"%s\" of the request to the worker has index %lld, but %zu came with it",
			       key, (long long)json_integer_value(index), fds->n);
	return fds->fds[json_integer_value(index)];
}

bool request_flag(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

const char *request_host(const json_t *request, char machine[MACHINE_ID_SIZE])
{
	const char *host = json_string_value(json_object_get(request, "Host"));

	if (host)
		return host;
	autoclose int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, machine, MACHINE_ID_SIZE - 1);
	machine[n > 0 ? n : 0] = '\0';
	machine[strcspn(machine, "\n")] = '\0';
	return machine;
}
