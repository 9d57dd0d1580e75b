/*
 * Answers questions about connection strings with libpq's own functions.
 *
 * First it prints its version and its table of parameters. Then each line of the input is a word and a
 * string in hexadecimal:
 *   parse STRING   the result of PQconninfoParse
 *   start STRING   the result of PQconnectStart, with service file, environment and password file
 * Each answer is some lines "name value", values in hexadecimal, and a line with a dot.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

static void
put(const char *name, const char *value)
{
	printf("%s ", name);
	for (; *value; value++)
		printf("%02x", (unsigned char) *value);
	printf("\n");
}

static void
put_options(PQconninfoOption *options)
{
	for (PQconninfoOption *option = options; option && option->keyword; option++)
		if (option->val)
			put(option->keyword, option->val);
	PQconninfoFree(options);
}

static void
parse(const char *string)
{
	char	   *error = NULL;
	PQconninfoOption *options = PQconninfoParse(string, &error);

	if (options)
		put_options(options);
	else
		put("error", error);
	PQfreemem(error);
}

static void
start(const char *string)
{
	PGconn	   *conn = PQconnectStart(string);

	put("error", PQerrorMessage(conn));
	if (PQpass(conn) && PQpass(conn)[0])
		put("used-password", PQpass(conn));
	put_options(PQconninfo(conn));
	PQfinish(conn);
}

static void
table(void)
{
	PQconninfoOption *options = PQconndefaults();

	printf("version %d\n", PQlibVersion());
	for (PQconninfoOption *option = options; option->keyword; option++)
		printf("keyword %s %s %s %s\n", option->keyword, option->envvar ? option->envvar : "-",
			   option->compiled ? option->compiled : "-", option->dispchar);
	for (PQconninfoOption *option = options; option->keyword; option++)
		if (strcmp(option->keyword, "user") == 0 && option->val)
			printf("user %s\n", option->val);
	printf(".\n");
	PQconninfoFree(options);
}

int
main(void)
{
	static char line[1 << 20];

	table();
	while (fgets(line, sizeof(line), stdin))
	{
		char	   *hex = strchr(line, ' ') + 1;
		char	   *string = hex;

		for (unsigned int byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
			*string++ = (char) byte;
		*string = '\0';
		hex = strchr(line, ' ') + 1;
		if (strncmp(line, "parse ", 6) == 0)
			parse(hex);
		else
			start(hex);
		printf(".\n");
	}
	return 0;
}
