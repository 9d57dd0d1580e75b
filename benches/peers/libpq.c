/*
 * What benches/client measures, done by libpq.
 *
 * usage: libpq TASK COUNT CONNINFO SQL
 * prints the nanoseconds of wall and of CPU time for each unit of work, and the bytes of all values.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

static double
wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static double
cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * 1e9 + used.tv_nsec;
}

static PGconn *
connect_to(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	return conn;
}

/* The bytes of all values. */
static long
length_of(PGresult *result)
{
	long		length = 0;
	int			rows = PQntuples(result), columns = PQnfields(result);

	for (int row = 0; row < rows; row++)
		for (int column = 0; column < columns; column++)
			length += PQgetlength(result, row, column);
	return length;
}

static long
run(PGconn *conn, const char *sql)
{
	PGresult   *result = PQexec(conn, sql);
	long		length;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	length = length_of(result);
	PQclear(result);
	return length;
}

static long
run_by_row(PGconn *conn, const char *sql)
{
	PGresult   *result;
	long		length = 0;

	if (!PQsendQuery(conn, sql) || !PQsetSingleRowMode(conn))
		exit(1);
	while ((result = PQgetResult(conn)) != NULL)
	{
		length += length_of(result);
		PQclear(result);
	}
	return length;
}

int
main(int argc, char **argv)
{
	const char *task = argc > 4 ? argv[1] : "";
	long		count = argc > 4 ? atol(argv[2]) : 0;
	const char *conninfo = argc > 4 ? argv[3] : "";
	const char *sql = argc > 4 ? argv[4] : "";
	PGconn	   *conn = connect_to(conninfo);
	double		wall = wall_ns(), cpu = cpu_ns();
	long		length = 0;

	if (strcmp(task, "connect") == 0)
		for (long i = 0; i < count; i++)
			PQfinish(connect_to(conninfo));
	else if (strcmp(task, "query") == 0)
		for (long i = 0; i < count; i++)
			length += run(conn, sql);
	else if (strcmp(task, "rows") == 0)
		length = run(conn, sql);
	else if (strcmp(task, "rows-streamed") == 0)
		length = run_by_row(conn, sql);
	else
		return 2;
	printf("%.0f %.0f %ld\n", (wall_ns() - wall) / count, (cpu_ns() - cpu) / count, length);
	PQfinish(conn);
	return 0;
}
